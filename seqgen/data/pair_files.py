"""Files in pairs: NAME.source.EXT and NAME.target.EXT in one folder."""

from dataclasses import replace

from seqgen.data.corpora import Corpus
from seqgen.errors import FileRejected
from seqgen.tasks.pairs import partner_of


def without_partners(corpus: Corpus) -> Corpus:
    """Return a corpus that lists each pair once, by its source.

    Files without a partner stay: whoever reads them says what is wrong with them.
    """
    labels = {}
    for file, label in corpus.labels.items():
        try:
            is_second = partner_of(file).stem.endswith(".source")
        except FileRejected:
            is_second = False
        if not is_second:
            labels[file] = label
    return replace(corpus, labels=labels)
