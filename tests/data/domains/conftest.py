"""Subjects of two domains, as fixtures."""

import domain_files
import pytest


@pytest.fixture
def write():
    """The writer of a subject."""
    return domain_files.write_subject


@pytest.fixture
def volumes():
    """The maker of a subject's volumes."""
    return domain_files.make_volumes


@pytest.fixture
def domains(tmp_path):
    """A data set of five subjects in a and four in b."""
    return domain_files.write_domains(tmp_path / "set")
