"""What can go wrong by the user's doing or the machine's; the text is shown to people unchanged."""


class ImgclsError(Exception):
    """One plain sentence: the fact, the value, the next step."""


class ConfigError(ImgclsError):
    """A setting is out of its limits or does not fit the others."""


class DataError(ImgclsError):
    """A picture, archive, table or data set cannot be used."""


class TooLargeError(DataError):
    """A picture exceeds a limit of bytes or pixels."""


class WrongTypeError(DataError):
    """A file is of a type that is not taken."""


class RunError(ImgclsError):
    """A run cannot be read, started, stopped, resumed or deleted."""


class ModelError(ImgclsError):
    """A model or its weights cannot be built, fetched or loaded."""
