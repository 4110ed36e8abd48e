"""Make the embedded text encoder: pretrain prosenet on books, from nothing.

    python examples/pretrain_text_encoder.py BRONTE.txt DARWIN.txt            # five minutes
    python examples/pretrain_text_encoder.py BRONTE.txt DARWIN.txt --measure   # the card's figures

The files are plain text of one author each, in UTF-8, with empty lines between paragraphs. Each is
cut into 40 stretches, about as long as a chapter. The network learns from 34 of them; two serve to
judge the pretraining, and four are for the demo of texts, of whose sentences the table is made
(`--table` writes it). Neither was seen by the vocabulary or the network.

Two things are learnt at once of pairs of passages that follow one another: pieces that are hidden
(Devlin et al., 2019), and which passage of the batch is the neighbour, by the mean of what the
network says of each piece, which is what a probe reads (Giorgi et al., 2021, DeCLUTR,
https://arxiv.org/abs/2006.03659). Embeddings begin as a factorization of how often pieces stand
near one another (Levy & Goldberg, 2014).
"""

import argparse
import pathlib
import re
import string
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from kerastl.backbones import Tokens, masked, pooling
from kerastl.backbones.prose import load_prosenet, prose_tokenizer, prosenet
from kerastl.backbones.prose import network as prose
from kerastl.data.texts.masking import POSITIONS

STRETCHES, JUDGED, SHOWN = 40, (10, 30), (5, 15, 25, 35)
PIECES = 3500
RESERVED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WIDTHS = (32, 64, 128)  # of a batch, which holds IDS ids in all
IDS = 4096
STEPS, EPOCH = 1000, 50
RATE, TEMPERATURE, NEIGHBOURS = 2e-3, 0.05, 0.3
NEAR = 5  # ids to each side that a piece stands near to
SENTENCE = re.compile(
    r"""(?:(?<=[.!?])|(?<=[.!?]["']))(?<!Mr\.)(?<!Mrs\.)(?<!Dr\.)(?<!St\.)\s+(?=["'A-Z])"""
)
LABELS, DRAWS = 20, 20  # of each author, and how often they are drawn


def stretches(path):
    """The text of a file in `STRETCHES` parts, cut between paragraphs."""
    paragraphs = re.split(r"\n\s*\n", pathlib.Path(path).read_text(encoding="utf-8"))
    paragraphs = [" ".join(one.split()) for one in paragraphs]
    ends = np.cumsum([len(one) for one in paragraphs])
    number = np.minimum(ends * STRETCHES // (ends[-1] + 1), STRETCHES - 1)
    return [
        [one for one, at in zip(paragraphs, number, strict=True) if at == which and one]
        for which in range(STRETCHES)
    ]


def sentences(paragraphs):
    """The sentences of paragraphs, without headings and what stands in an index."""
    found = [one for part in paragraphs for one in SENTENCE.split(part)]
    return [one for one in found if one.upper() != one and sum(map(str.isdigit, one)) < 5]


def parts_of(paths, which):
    """Sentences of some stretches of each file: a list of lists a file."""
    return [[sentences(one) for n, one in enumerate(stretches(path)) if which(n)] for path in paths]


def is_learnt(number):
    return number not in (*JUDGED, *SHOWN)


def vocabulary_of(texts):
    """`PIECES` word pieces of texts, among them every sign of ASCII, alone and within a word."""
    from tokenizers import BertWordPieceTokenizer

    maker = BertWordPieceTokenizer(lowercase=True, strip_accents=True)
    maker.train_from_iterator(
        texts, vocab_size=PIECES, limit_alphabet=100, special_tokens=list(RESERVED),
        show_progress=False,
    )  # fmt: skip
    known = sorted(maker.get_vocab(), key=maker.get_vocab().get)
    signs = [*string.ascii_lowercase, *string.digits]
    signs += [*string.punctuation, *(f"##{sign}" for sign in signs)]
    missing = [sign for sign in signs if sign not in known]
    return [*known[: PIECES - len(missing)], *missing]


class Passages:
    """Batches of pairs of neighbouring passages, with ids hidden.

    Args:
        tokens: `Tokens`.
        parts: Lists of sentences, each a stretch.
        seed: Int.
    """

    def __init__(self, tokens, parts, seed):
        self.tokens, self.rng = tokens, np.random.default_rng(seed)
        self.masking = masked.masking_of(tokens)
        self.ids, self.starts = [], []
        for part in parts:
            read = tokens.ids(part)
            self.ids.append(np.concatenate(read))
            self.starts.append(np.cumsum([0, *(len(one) for one in read)])[:-1])
        self.share = np.array([len(one) for one in self.ids]) / sum(map(len, self.ids))

    def pair(self, width):
        """Two passages of at most `width - 2` ids that follow one another."""
        which = self.rng.choice(len(self.ids), p=self.share)
        ids, starts = self.ids[which], self.starts[which]
        room = width - 2
        begin = self.rng.choice(starts[starts < len(ids) - 2 * room])
        lengths = self.rng.integers(max(6, room // 3), room + 1, size=2)
        after = (
            starts[np.searchsorted(starts, begin + lengths[0])]
            if (starts[-1] >= begin + lengths[0])
            else begin + lengths[0]
        )
        return ids[begin : begin + lengths[0]], ids[after : after + lengths[1]]

    def batch(self, width):
        """`(inputs, targets, weights)` of `IDS` ids; rows 2 k and 2 k + 1 are neighbours."""
        pairs = [self.pair(width) for _ in range(IDS // width // 2)]
        read = self.tokens.pack([one for pair in pairs for one in pair], width)
        rows = len(read["token_ids"])
        ids, positions, labels, weights = self.masking(
            read["token_ids"], read["padding_mask"], [self.rng] * rows
        )
        inputs = {**read, "token_ids": ids, POSITIONS: positions}
        targets = {"said": labels, "meant": np.zeros(rows, "float32")}
        return inputs, targets, {"said": weights, "meant": np.ones(rows, "float32")}

    def batches(self):
        """Dataset without end."""

        def drawn():
            while True:
                yield self.batch(int(self.rng.choice(WIDTHS)))

        spec = tf.nest.map_structure(
            lambda array: tf.TensorSpec([None] * array.ndim, array.dtype), self.batch(WIDTHS[0])
        )
        return tf.data.Dataset.from_generator(drawn, output_signature=spec).prefetch(2)


def nearness(passages, width):
    """Embeddings `(pieces, width)` that say which pieces stand near one another."""
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    size = passages.tokens.vocabulary_size
    counts = sparse.csr_matrix((size, size))
    for ids in passages.ids:
        for apart in range(1, NEAR + 1):
            near = np.full(len(ids) - apart, 1 / apart), (ids[:-apart], ids[apart:])
            counts = counts + sparse.coo_matrix(near, (size, size)).tocsr()
    counts = (counts + counts.T).tocoo()
    total = np.asarray(counts.sum(axis=1)).ravel()
    often = total**0.75 / (total**0.75).sum()
    information = np.log(counts.data / total[counts.row] / often[counts.col])
    kept = information > 0
    matrix = sparse.csr_matrix(
        (information[kept], (counts.row[kept], counts.col[kept])), (size, size)
    )
    left, values, _ = randomized_svd(matrix, width, random_state=0)
    found = left * np.sqrt(values)
    return (found / found.std() * 0.05).astype("float32")


def neighbours(_, meant):
    """How badly each passage tells its neighbour among all of the batch."""
    meant = keras.ops.normalize(meant, axis=-1)
    like = meant @ keras.ops.transpose(meant) / TEMPERATURE
    rows = keras.ops.shape(like)[0]
    like = like - 1e4 * keras.ops.eye(rows)  # not itself
    neighbour = keras.ops.arange(rows) + 1 - 2 * (keras.ops.arange(rows) % 2)
    return keras.losses.sparse_categorical_crossentropy(neighbour, like, from_logits=True)


def pretraining_model(network):
    """`network` with what it says of hidden pieces and means of passages."""
    sequence = network.output["sequence_output"]
    meant = pooling.pooled(sequence, "avg", network.input["padding_mask"])
    head = masked.masked_lm(network, sequence)
    return keras.Model(head.input, {"said": head.output, "meant": meant})


class Tell(keras.callbacks.Callback):
    """Prints a line an epoch."""

    def on_train_begin(self, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        told = {name: round(float(value), 3) for name, value in (logs or {}).items()}
        passed = time.perf_counter() - self.started
        print(f"{passed:.0f} s, {(epoch + 1) * EPOCH} steps: {told}", flush=True)


def pretrain(paths, steps, seed, options):
    """`(network, tokens)`, pretrained for so many steps."""
    keras.utils.set_random_seed(seed)
    parts = [part for author in parts_of(paths, is_learnt) for part in author]
    words = vocabulary_of([one for part in parts for one in part])
    tokens = Tokens(prose_tokenizer(words))
    passages = Passages(tokens, parts, seed)
    network = prosenet(len(words))
    print(
        f"{sum(map(len, passages.ids)):,} ids in {sum(map(len, parts)):,} sentences; "
        f"{network.count_params():,} weights"
    )
    if options.near:
        network.get_layer("token_embedding").embeddings.assign(nearness(passages, prose.WIDTH))
    model = pretraining_model(network)
    rate = keras.optimizers.schedules.CosineDecay(
        RATE / 100, steps - steps // 20, alpha=0.0, warmup_target=RATE, warmup_steps=steps // 20
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0, beta_2=0.98),
        {
            "said": keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            ),
            "meant": neighbours,
        },
        loss_weights={"said": 1.0, "meant": options.neighbours},
    )
    model.fit(
        passages.batches(), steps_per_epoch=EPOCH, epochs=steps // EPOCH, callbacks=[Tell()],
        shuffle=False,
        verbose=0,
    )  # fmt: skip
    return network, tokens


def features_of(network, tokens, texts):
    """Means of what the network says of the pieces of each text."""
    meant = pooling.pooled(network.output["sequence_output"], "avg", network.input["padding_mask"])
    ids = tokens.ids(texts)
    order = np.argsort([len(one) for one in ids])
    found = np.zeros((len(texts), prose.WIDTH), "float32")
    model = keras.Model(network.input, meant)
    for begin in range(0, len(texts), 64):
        rows = order[begin : begin + 64]
        width = min(prose.LONGEST, 16 * -(-(len(ids[rows[-1]]) + 2) // 16))
        found[rows] = model(tokens.pack([ids[row] for row in rows], width), training=False)
    return found


def author_score(features, authors):
    """Accuracy of a logistic regression on `LABELS` sentences of each, over `DRAWS` draws."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(authors))
        learnt = np.concatenate([order[authors[order] == one][:LABELS] for one in (0, 1)])
        rest = np.setdiff1d(order, learnt)
        with_scale = () if hasattr(features, "tocsr") else (StandardScaler(),)
        model = make_pipeline(*with_scale, LogisticRegression(C=1.0, max_iter=1000))
        model.fit(features[learnt], authors[learnt])
        scores.append(model.score(features[rest], authors[rest]))
    return f"{np.mean(scores):.3f} ± {np.std(scores):.3f}"


def next_score(first, second):
    """How often the passage that follows is the nearest of 100 that do."""
    centre = np.concatenate([first, second]).mean(axis=0)
    first, second = (
        (one - centre) / np.linalg.norm(one - centre, axis=1, keepdims=True)
        for one in (first, second)
    )
    right = [
        (first[i : i + 100] @ second[i : i + 100].T).argmax(axis=1) == np.arange(100)
        for i in range(0, len(first) - 99, 100)
    ]
    return f"{np.mean(right):.3f}"


def measure(networks, tokens, paths, which):
    """Print how useful each network is as it is, and TF-IDF beside it, on stretches held out."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    authors = parts_of(paths, lambda number: number in which)
    texts = [
        [one for part in author for one in part if len(one.split()) >= 5] for author in authors
    ]
    flat = [one for author in texts for one in author]
    labels = np.repeat([0, 1], [len(author) for author in texts])
    pairs = [
        (" ".join(part[i : i + 2]), " ".join(part[i + 2 : i + 4]))
        for author in authors
        for part in author
        for i in range(0, len(part) - 3, 4)
    ]
    pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]
    print(f"{len(flat)} sentences, {len(pairs)} pairs of passages")
    ways = {
        name: lambda given, network=network: features_of(network, tokens, given)
        for name, network in networks.items()
    }
    counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    print(f"TF-IDF: author {author_score(counts.fit_transform(flat), labels)}")
    for name, way in ways.items():
        first, second = (way([pair[i] for pair in pairs]) for i in (0, 1))
        print(f"{name}: author {author_score(way(flat), labels)}, next {next_score(first, second)}")


def write(network, tokens, folder):
    """Weights in float16, and the vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    small = prosenet(tokens.vocabulary_size, dtype="float16")
    small.set_weights([value.astype("float16") for value in network.get_weights()])
    weights = folder / prose.WEIGHTS.name
    small.save_weights(weights)
    words = tokens.tokenizer.get_vocabulary()
    (folder / prose.VOCABULARY.name).write_text("".join(f"{one}\n" for one in words), "utf-8")
    print(f"{weights.name}: {weights.stat().st_size:,} bytes")


def write_table(paths, path, count):
    """A table of `count` sentences of each author, of stretches that nothing was learnt from."""
    rows, rng = [], np.random.default_rng(0)
    for author, parts in zip(paths, parts_of(paths, lambda n: n in SHOWN), strict=True):
        found = {one for part in parts for one in part if 6 <= len(one.split()) <= 40}
        chosen = rng.permutation(sorted(found))[:count]
        rows += [(pathlib.Path(author).stem, one) for one in chosen]
    order = rng.permutation(len(rows))
    lines = ["label\ttext", *("\t".join(rows[i]) for i in order)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def main():
    """Read the arguments, then pretrain or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="+", type=pathlib.Path, help="a file an author")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neighbours", type=float, default=NEIGHBOURS, help="weight of that loss")
    parser.add_argument("--no-near", dest="near", action="store_false")
    parser.add_argument("--out", type=pathlib.Path, default=prose.WEIGHTS.parent)
    parser.add_argument("--measure", action="store_true", help="measure the weights, train nothing")
    parser.add_argument("--table", type=pathlib.Path, help="write the table of the demo there")
    given = parser.parse_args()
    if given.table:
        write_table(given.texts, given.table, 800)
        return
    if given.measure:
        tokens = Tokens(prose_tokenizer())
        keras.utils.set_random_seed(given.seed)
        measure({"random": prosenet(), "pretrained": load_prosenet()}, tokens, given.texts, SHOWN)
        return
    network, tokens = pretrain(given.texts, given.steps, given.seed, given)
    write(network, tokens, given.out)
    keras.utils.set_random_seed(given.seed)
    fresh = prosenet(tokens.vocabulary_size)
    measure({"random": fresh, "pretrained": network}, tokens, given.texts, JUDGED)


if __name__ == "__main__":
    sys.exit(main())
