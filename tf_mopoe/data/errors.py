"""Errors of data on disk."""

from PIL import Image

#: Errors that Pillow raises on damaged files, and on files that are not images.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
)


class DataError(ValueError):
    """Error of files that are missing, damaged or not as a reader expects them.

    The message names the file, what was expected and how to fix it.

    Example:
      >>> from tf_mopoe.data import from_image_folders
      >>> import tempfile
      >>> try:
      ...     from_image_folders({"photo": tempfile.mkdtemp()}, (28, 28))
      ... except DataError as error:
      ...     print(str(error)[:51])
      The folder of modality 'photo' must hold images (.p
    """
