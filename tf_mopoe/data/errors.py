"""What is wrong with data on disk."""

from PIL import Image

#: What Pillow raises on files that are damaged, or no images.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
)


class DataError(ValueError):
    """Files are not what a reader needs; says which, what was expected and to do."""
