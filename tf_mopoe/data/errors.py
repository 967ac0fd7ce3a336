"""What is wrong with data on disk."""


class DataError(ValueError):
    """Files are not what a reader needs; says which, what was expected and to do."""
