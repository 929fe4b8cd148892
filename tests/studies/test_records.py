"""Records of studies: what is read, and what is said of a damaged file."""

import pytest

from mamlcli.common.errors import RunError
from mamlcli.studies.records import kept_record, read_record


def squared(value):
    return value["number"] ** 2


def test_a_record_is_made_of_the_content_of_its_file(tmp_path):
    file = tmp_path / "record.json"
    file.write_text('{"number": 3}')
    assert read_record(file, squared) == kept_record(file, squared) == 9


@pytest.mark.parametrize("text", ["", '{"number": 3', "[3]", "null", "{}", '{"number": null}', None])
def test_a_damaged_file_is_named_with_what_to_do_or_counts_as_missing(tmp_path, text):
    file = tmp_path / "record.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RunError, match=r"record\.json: expected a record that can be read.*Delete the file and run"):
        read_record(file, squared)
    assert kept_record(file, squared) is None
