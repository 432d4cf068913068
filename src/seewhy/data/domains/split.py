"""Splitting patients of two domains: one split, dealt evenly within each domain, that cuts nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seewhy.data.domains.store import DOMAINS, PreparedSubject
from seewhy.data.splits import Split
from seewhy.data.splitting import choose_split

__all__ = ["split_domains"]


def split_domains(subjects: Sequence[PreparedSubject], **options: Any) -> Split:
    """Make the split that the options ask for.

    Patients who were scanned at both sites are a group of their own, so that each is in one part with all scans.

    Args:
        subjects: of both domains.
        options: of `seewhy.data.splitting.choose_split`.
    """
    domains: dict[str, set[str]] = {}
    for subject in subjects:
        domains.setdefault(subject.patient, set()).add(subject.domain)
    groups = {patient: _group(found) for patient, found in domains.items()}
    return choose_split(list(domains), strata=groups, **options)


def _group(domains: set[str]) -> int:
    """0 for a, 1 for b, 2 for both."""
    return len(DOMAINS) if len(domains) > 1 else DOMAINS.index(next(iter(domains)))
