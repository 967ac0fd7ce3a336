"""The training application: recipes, training with resumption, evaluation."""
