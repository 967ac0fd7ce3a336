"""What is served of a model: its signatures, and the contract with clients."""
