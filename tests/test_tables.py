"""A table that people bring is read as text exactly as it says, or refused with the reason."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.base import errors, tables
from helpers.base.errors import SourceError

LAW = settings(deadline=None, derandomize=True, max_examples=80)
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
NAMES = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="[;|"), min_size=1, max_size=6
)


def written(folder, content, name="t.csv"):
    """A table of this text (or these bytes); returns its path."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def cells(folder, content):
    """The header and the rows of a table of this text (or these bytes), as lists."""
    table = tables.read(written(folder, content))
    return [list(table), *table.to_numpy().tolist()]


# --- what is read ------------------------------------------------------------------------------


@LAW
@given(st.data())
def test_what_csv_writes_comes_back_stripped(tmp_path_factory, data):
    header = data.draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    row = st.lists(CELLS, min_size=len(header), max_size=len(header)).filter(
        lambda r: any(c.strip() for c in r)
    )
    rows, spread = (
        data.draw(st.lists(row, max_size=5)),
        data.draw(st.sampled_from(["", " ", "\t "])),
    )
    file = io.StringIO(newline="")
    csv.writer(file).writerows([[spread + name + spread for name in header], *rows])
    path = written(tmp_path_factory.mktemp("written"), file.getvalue())
    found = tables.read(path)
    assert list(found) == header == tables.header(path)
    assert found.to_numpy().tolist() == [[cell.strip() for cell in row] for row in rows]


def test_no_cell_is_taken_for_anything_but_text(tmp_path):
    values = ["NA", "001", "null", "nan", "None", "1e5", "True", "", "=1+1", "2019-01-01", "00:30"]
    found = tables.read(
        written(tmp_path, "id,label\n" + "".join(f"{n},{text}\n" for n, text in enumerate(values)))
    )
    assert found["label"].tolist() == values
    assert all(isinstance(cell, str) for cell in found.to_numpy().ravel())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_the_ends_of_lines_do_not_matter(tmp_path, encoding, newline):
    text = "id,label\na,ý\n\nb,Vögel\n".replace("\n", newline)
    assert cells(tmp_path, text.encode(encoding)) == [["id", "label"], ["a", "ý"], ["b", "Vögel"]]


def test_commas_quotes_and_lines_within_quotes_belong_to_the_cell(tmp_path):
    text = 'id,label\na,"rain, wind"\nb,"a ""dog"""\nc,"two\nlines"\nd,"two\r\nlines"\n'
    found = [label for _, label in cells(tmp_path, text)[1:]]
    assert found == ["rain, wind", 'a "dog"', "two\nlines", "two\r\nlines"]


def test_a_last_column_in_brackets_takes_the_rest_of_its_line(tmp_path):
    text = "rec_id,[labels]\n0,3\n1\n2,0,1\n3,?\n4,a,,b\n"
    assert cells(tmp_path, text)[1:] == [
        ["0", "3"],
        ["1", ""],
        ["2", "0,1"],
        ["3", "?"],
        ["4", "a,,b"],
    ]


def test_commas_too_many_at_the_end_of_a_line_do_no_harm(tmp_path):
    assert cells(tmp_path, "f,l\na,x,\nb,y, ,\n") == [["f", "l"], ["a", "x"], ["b", "y"]]


def test_a_table_may_have_no_rows_and_its_first_column_no_name(tmp_path):
    assert cells(tmp_path, "f,l\n") == [["f", "l"]]
    assert cells(tmp_path, ",l\n0,x\n") == [["", "l"], ["0", "x"]]


@pytest.mark.parametrize("line", [" , ", " ", "\t,"])
def test_a_line_that_says_nothing_is_no_row(tmp_path, line):
    assert cells(tmp_path, f"f,l\na,x\n{line}\nb,y\n") == [["f", "l"], ["a", "x"], ["b", "y"]]


SEPARATED = {
    "semicolons and decimal commas": (
        "f;l;t\na;x;1,5\n",
        ";",
        [["f", "l", "t"], ["a", "x", "1,5"]],
    ),
    "tabs": ("f\tl\na\tx\n", "\t", [["f", "l"], ["a", "x"]]),
    "bars": ("f|l\na|x\n", "|", [["f", "l"], ["a", "x"]]),
    "commas come first": ("f,l\na,x;y|z\n", ",", [["f", "l"], ["a", "x;y|z"]]),
}


@pytest.mark.parametrize("marks", SEPARATED)
def test_the_header_tells_what_separates_the_columns(tmp_path, marks):
    text, delimiter, expected = SEPARATED[marks]
    assert cells(tmp_path, text) == expected
    assert tables.header(tmp_path / "t.csv") == expected[0]
    assert list(tables.read(tmp_path / "t.csv", delimiter=delimiter)) == expected[0]
    if delimiter != ",":
        with pytest.raises(SourceError, match=r"columns by \w+, not by commas"):
            tables.read(tmp_path / "t.csv", delimiter=",")


# --- what is refused ---------------------------------------------------------------------------

REFUSED = {
    "UTF-16, little end first": ("f,l\na,x\n".encode("utf-16"), r"UTF-16.*UTF-8"),
    "UTF-16, big end first": (b"\xfe\xff" + "f,l\na,x\n".encode("utf-16-be"), r"UTF-16.*UTF-8"),
    "UTF-16 without a mark": ("f,l\na,x\n".encode("utf-16-le"), r"zero bytes"),
    "cp1252": (
        "f,l\na,x\nb,Vögel\n".encode("cp1252"),
        r"not written in UTF-8 \(byte 0xf6 in row 3; perhaps cp1252",
    ),
    "a table cut within a letter": (
        "f,l\na,ö".encode()[:-1],
        r"not written in UTF-8 \(byte 0xc3 in row 2",
    ),
    "a row too long between semicolons": (
        "f;l\na;x;y\n",
        r"row 2: 3 values under 2 columns.*semicolons stand in quotes",
    ),
    "nothing": (b"", r"is empty"),
    "a byte order mark alone": (b"\xef\xbb\xbf", r"is empty"),
    "empty lines": ("\n\r\n\n", r"is empty"),
    "two columns of one name": ("f,l,f\na,x,b\n", r"two columns called 'f'"),
    "two columns of one name but for spaces": ("f,l, f \na,x,b\n", r"two columns called 'f'"),
    "a column without a name": ("f,,l\na,1,x\n", r"column 2 has no name"),
    "a row too long": (
        "f,l\na,x\nb,rain,dog\n",
        r"row 3: 3 values under 2 columns \(b, rain, dog\).*quotes",
    ),
    "a row too short": ("f,l\na,x\nb\n", r"row 3: 1 values under 2 columns"),
    "a quote that does not end": (
        'f,l\na,"x\nb,y\n',
        r"cannot be read as a table.*quotes in pairs",
    ),
    "a quote within a quote": ('f,l\na,"x"y"\n', r"cannot be read as a table.*quotes in pairs"),
    "zero bytes": (b"f,l\na,x\0\n", r"zero bytes"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"not written in UTF-8 \(byte 0x89 in row 1"),
}


@pytest.mark.parametrize("written_as", REFUSED)
def test_what_cannot_be_understood_is_refused_by_name_with_the_reason(tmp_path, written_as):
    content, reason = REFUSED[written_as]
    path = written(tmp_path, content)
    with pytest.raises(SourceError, match=rf"(?s)^t\.csv.*{reason}"):
        tables.read(path)
    with pytest.raises(SourceError, match=rf"(?s)^meta/t\.csv.*{reason}"):
        tables.read(path, "meta/t.csv")


@LAW
@given(
    st.binary(max_size=60)
    | st.text(st.sampled_from("fl,;\"'\n\r\t |[]\ufeff"), max_size=16).map(str.encode)
)
def test_any_bytes_are_a_table_of_text_or_refused(tmp_path_factory, content):
    path = written(tmp_path_factory.mktemp("any"), content)
    try:
        found = tables.read(path)
    except SourceError:
        return
    assert len(set(found)) == len(list(found)) and all(
        isinstance(cell, str) for cell in found.to_numpy().ravel()
    )


def test_a_row_is_named_by_its_number_in_a_spreadsheet(tmp_path):
    with pytest.raises(SourceError, match="row 4: 3 values"):
        tables.read(written(tmp_path, "f,l\na,x\n\nb,rain,dog\n"))


def test_a_table_that_is_not_there_is_named_with_its_folder(tmp_path):
    with pytest.raises(SourceError, match=r"There is no t\.csv in .*" + tmp_path.name):
        tables.read(tmp_path / "t.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SourceError, match=r"There is no folder\.csv"):
        tables.read(tmp_path / "folder.csv")


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    table = tables.read(written(tmp_path, "f,l\na,x\n"))
    assert tables.column(table, "l", "t.csv").tolist() == ["x"]
    with pytest.raises(SourceError, match=r"t\.csv has no column 'L'. Its columns: f, l\."):
        tables.column(table, "L", "t.csv")
    with pytest.raises(SourceError, match=r"no column of labels\. Its columns: f, l\."):
        tables.column(table, None, "t.csv")


@pytest.mark.parametrize("content", ["f,l\na,x\n".encode("utf-16"), "ö,l\n".encode("cp1252"), b""])
def test_the_header_of_what_is_no_table_is_empty(tmp_path, content):
    assert tables.header(written(tmp_path, content)) == []
    assert tables.header(tmp_path / "absent.csv") == tables.header(tmp_path) == []


def test_a_download_refuses_with_the_same_error():
    assert errors.SourceError is SourceError


@pytest.mark.parametrize(
    ("text", "spelled"), [("cafe\u0301", "café"), ("café", "café"), ("I\u0307", "İ"), ("a", "a")]
)
def test_accents_have_one_spelling(text, spelled):
    assert tables.spelling(text) == spelled and tables.spelling(spelled) == spelled
