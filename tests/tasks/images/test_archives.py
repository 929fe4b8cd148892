"""Archives are unpacked within bounds: nothing outside of the folder, nothing without measure, nothing left behind."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images import archives
from mamlcli.tasks.images.archives import archive_stem, as_typed, unpack, unpacking


def zip_file(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path


def tar_file(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as packed:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("birds.zip", "birds"),
        ("birds.v1.tar.gz", "birds.v1"),
        ("Birds.TGZ", "Birds"),
        ("birds.tar", "birds"),
        ("birds.tar.xz", "birds"),
        ("birds.tar.bz2", "birds"),
        ("birds.pkl", None),
        ("birds", None),
        (".zip", None),
    ],
)
def test_an_archive_is_known_by_its_name(name, stem):
    assert archive_stem(Path(name)) == stem


@pytest.mark.parametrize("make", [zip_file, tar_file, lambda path, members: tar_file(path, members, "w")])
def test_files_are_unpacked_whatever_the_archive_is_called(tmp_path, make):
    archive = make(tmp_path / "a.zip", {"set/ant/1.png": b"one", "set/bee/2.png": b"two", "__MACOSX/set/._1.png": b"x"})
    assert unpack(archive, tmp_path / "out") == []
    assert files(tmp_path / "out") == {"set/ant/1.png", "set/bee/2.png"}
    assert (tmp_path / "out" / "set" / "bee" / "2.png").read_bytes() == b"two"


@pytest.mark.parametrize("make", [zip_file, tar_file])
@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "a/../../evil.png", "C:/evil.png", "..\\evil.png"])
def test_names_that_lead_out_are_left_out_and_listed(tmp_path, make, name):
    archive = make(tmp_path / "a.zip", {name: b"x", "good.png": b"y"})
    skipped = unpack(archive, tmp_path / "below" / "out")
    assert [reason for _, reason in skipped] == ["its name leads out of the folder"]
    assert files(tmp_path) == {"a.zip", "below/out/good.png"}


def test_links_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"link{kind.decode()}")
            member.type, member.linkname = kind, "/etc/passwd"
            packed.addfile(member)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc/passwd")
    assert len(unpack(tmp_path / "a.tar", tmp_path / "out")) == 3
    assert len(unpack(tmp_path / "a.zip", tmp_path / "out")) == 1
    assert files(tmp_path / "out") == set()


@pytest.mark.parametrize("make", [zip_file, tar_file])
def test_an_archive_that_unfolds_without_measure_is_refused(tmp_path, make, monkeypatch):
    monkeypatch.setattr(archives, "_FREE_BYTES", 1000)
    unpack(make(tmp_path / "small.zip", {"1.bin": bytes(1000)}), tmp_path / "out")
    with pytest.raises(DataError, match="unfolds to a usual size, got more than"):
        unpack(make(tmp_path / "bomb.zip", {f"{number}.bin": bytes(10**6) for number in range(10)}), tmp_path / "out")


def test_more_files_than_a_disk_bears_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_MAX_MEMBERS", 3)
    with pytest.raises(DataError, match="more than 3 files"):
        unpack(zip_file(tmp_path / "a.zip", {f"{number}.png": b"x" for number in range(4)}), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04 cut"])
def test_a_damaged_archive_is_named(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: expected a whole archive"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("make", [zip_file, tar_file])
def test_an_archive_cut_off_is_named(tmp_path, make):
    archive = make(tmp_path / "a.zip", {"1.png": bytes(range(256)) * 50})
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match="whole archive"):
        unpack(archive, tmp_path / "out")


def test_what_was_unpacked_is_removed_and_messages_name_the_archive(tmp_path):
    archive = zip_file(tmp_path / "birds.zip", {"1.png": b"x"})

    def fail():
        with unpacking(archive, tmp_path / "packs") as scratch:
            unpack(archive, scratch / "0" / "birds")
            assert as_typed(f"{scratch}/0/birds/1.png", scratch, archive) == f"{archive}/1.png"
            raise DataError(f"{scratch}/0/birds/ant", expected="images", got="none", next_step=f"See {scratch}/0/birds")

    with pytest.raises(DataError) as caught:
        fail()
    assert str(caught.value) == f"{archive}/ant: expected images, got none. See {archive}."
    assert list((tmp_path / "packs").iterdir()) == []


def test_a_folder_without_archives_needs_no_room_for_them(tmp_path):
    (tmp_path / "set").mkdir()
    with unpacking(tmp_path / "set", tmp_path / "packs") as scratch:
        assert scratch is None
    assert not (tmp_path / "packs").exists()


def test_a_name_of_gigabytes_in_a_tar_file_is_not_read(tmp_path):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 3_000_000_000
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    with pytest.raises(DataError, match="whole archive"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
