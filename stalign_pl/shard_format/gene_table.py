"""The gene axis of a shard set: Ensembl ids and symbols, by gene index."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from stalign_pl.errors import ShardError
from stalign_pl.files import replace_file
from stalign_pl.gene_ids import without_version


@dataclass(frozen=True)
class GeneTable:
    """The gene axis of a shard set; row i is gene index i.

    Attributes:
        ids: Ensembl ids without version, '' where none is known.
        symbols: symbols, '' where none is known.
    """

    ids: tuple[str, ...]
    symbols: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> tuple[str, ...]:
        """Returns one name a gene, for people: the symbol where there is one, else the Ensembl id."""
        return tuple(symbol or gene for gene, symbol in zip(self.ids, self.symbols, strict=True))

    def digest(self) -> str:
        """Returns the SHA-256 of the table; every artefact made with gene indices names it."""
        text = "".join(f"{gene}\t{symbol}\n" for gene, symbol in zip(self.ids, self.symbols, strict=True))
        return hashlib.sha256(text.encode()).hexdigest()

    def lookup(self, name: str) -> int | None:
        """Returns the gene index of an Ensembl id (its version is ignored) or a symbol; None where there is neither."""
        return self._index().get(without_version(name))

    def _index(self) -> dict[str, int]:
        cached = self.__dict__.get("_names_to_index")
        if cached is None:
            cached = {}
            for number in reversed(range(len(self))):  # the first row of a repeated symbol wins
                cached.update({name: number for name in (self.symbols[number], self.ids[number]) if name})
            object.__setattr__(self, "_names_to_index", cached)
        return cached

    def write(self, path: Path) -> None:
        """Write genes.tsv: index, ensembl_id, symbol."""
        with replace_file(path) as temporary:
            rows = [f"{i}\t{g}\t{s}\n" for i, (g, s) in enumerate(zip(self.ids, self.symbols, strict=True))]
            temporary.write_text("index\tensembl_id\tsymbol\n" + "".join(rows))

    @classmethod
    def read(cls, path: Path) -> GeneTable:
        """Read genes.tsv.

        Raises:
            ShardError: another header, or a line whose number or cells are wrong.
        """
        lines = path.read_text().splitlines()
        if not lines or lines[0].split("\t") != ["index", "ensembl_id", "symbol"]:
            raise ShardError(f"{path}: the first line should be 'index<TAB>ensembl_id<TAB>symbol'")
        rows = [line.split("\t") for line in lines[1:]]
        for number, row in enumerate(rows):
            if len(row) != 3 or row[0] != str(number):
                raise ShardError(
                    f"{path}: line {number + 2} should be '{number}<TAB>ensembl_id<TAB>symbol', is {row!r}"
                )
        return cls(ids=tuple(row[1] for row in rows), symbols=tuple(row[2] for row in rows))
