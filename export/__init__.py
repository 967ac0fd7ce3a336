"""The serving application: SavedModels for TensorFlow Serving."""
