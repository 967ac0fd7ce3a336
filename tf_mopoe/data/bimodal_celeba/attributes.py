"""The 40 attributes of CelebA, and the text that lists those of a face."""

from collections.abc import Iterable

#: Number of symbols of the text of a face.
TEXT_LENGTH = 256
#: Names of the attributes, in the order of the published file.
ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)


def attribute_text(present: Iterable[bool]) -> str:
    """Names of the present attributes, `TEXT_LENGTH` symbols.

    Args:
      present: 40 flags, in the order of `ATTRIBUTES`.

    Returns:
      Text such as `"bangs, no beard, smiling"`, padded with blanks or cut.
    """
    names = [name for name, flag in zip(ATTRIBUTES, present, strict=True) if flag]
    text = ", ".join(name.replace("_", " ").lower() for name in names)
    return text[:TEXT_LENGTH].ljust(TEXT_LENGTH)
