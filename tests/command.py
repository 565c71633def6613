"""The command line as its users see it."""

from click.testing import CliRunner, Result

from semisiam.cli import main


def invoke(*words) -> Result:
    """Run `semisiam WORDS`; a mistake must end in a message, never in a traceback."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result
