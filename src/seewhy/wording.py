"""Words for what a data set annotates, in figures, tables and reports."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LESION", "TargetWords"]


@dataclass(frozen=True, kw_only=True)
class TargetWords:
    """Words for the structure that is looked for.

    Attributes:
        target: noun without article, in the singular.
        absent: adjective of a slice or patient without it.

    Example:
        >>> from seewhy.wording import TargetWords
        >>> TargetWords(target="atrium", absent="atrium-free").fill("{absent} slices, and slices with {a_target}")
        'atrium-free slices, and slices with an atrium'
    """

    target: str = "lesion"
    absent: str = "healthy"

    def fill(self, text: str) -> str:
        """Fill the words into a text with `{target}`, `{a_target}` (with its article), `{absent}` and `{Absent}`."""
        article = "an" if self.target[:1].lower() in set("aeiou") else "a"
        capital = self.absent[:1].upper() + self.absent[1:]
        words = {"target": self.target, "a_target": f"{article} {self.target}", "absent": self.absent}
        return text.format(**words, Absent=capital)

    def describe(self, *, present: bool) -> str:
        """Label of a slice: the target, or that there is none.

        Example:
            >>> TargetWords().describe(present=False)
            'no lesion'
        """
        return self.target if present else f"no {self.target}"


LESION = TargetWords()
"""Words of data sets that state no others."""
