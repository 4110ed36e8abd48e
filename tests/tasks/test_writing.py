"""What a language model writes on: prompts, examples before them, samplers, where it ends."""

import json

import numpy as np
import pytest
import tensorflow as tf

from kerastl import generate
from kerastl.backbones import Tokens, save_preset
from kerastl.tasks import Writer, read_examples, read_prompts
from kerastl.tasks.settings import SAMPLERS, GenerateSettings
from kerastl.tasks.writing import BETWEEN
from kerastl_cli.main import run
from tests.backbones import causal_cases, text_cases

PROMPTS = ["the cat", "a fox sat on"]


@pytest.fixture(autouse=True)
def eagerly():
    """Twenty steps of a tiny network take less time than compiling them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The run folder of a tiny Llama with a sentencepiece tokenizer."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    tokenizer = text_cases.tokenizers()["llama"]()
    size = tokenizer.vocabulary_size()
    save_preset(causal_cases.task("Llama", tokenizer, vocabulary_size=size), path / "preset")
    return path


@pytest.fixture(scope="module")
def writer(folder):
    return Writer(folder, GenerateSettings(max_length=40))


def test_it_writes_what_keras_hub_writes(folder, writer):
    """Greedy, compiled, with KerasHub's own preprocessor around the same network."""
    tf.config.run_functions_eagerly(False)
    task = causal_cases.task(
        "Llama", text_cases.tokenizers()["llama"](), vocabulary_size=writer._tokens.vocabulary_size
    )
    task.compile(sampler="greedy")
    whole = task.generate(PROMPTS, max_length=20)
    found = generate(folder, PROMPTS, max_length=20)
    assert [one["prompt"] for one in found] == PROMPTS
    for one, expected in zip(found, whole, strict=True):
        assert one["prompt"] + one["continuation"] == expected
        assert len(one["continuation"]) > 0


@pytest.mark.slow_but("greedy", "top_p")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_and_its_seed(folder, sampler):
    draws = sampler in ("top_k", "top_p", "random")
    options = {name: {"k": 20, "beams": 3}.get(name, 0.95) for name in SAMPLERS[sampler]}
    texts = []
    for seed in (0, 0, 1) if draws else (0,):
        settings = {"sampler": sampler, "seed": seed, "max_length": 16, **options}
        texts.append([one["continuation"] for one in generate(folder, PROMPTS, **settings)])
    assert all(texts[0]) and texts[0] == texts[draws]
    assert (texts[0] != texts[-1]) == draws


def test_examples_stand_before_the_prompt_as_they_were_learnt(tmp_path, writer):
    """Each text is read by itself, a blank line after each example."""
    rows = [{"prompt": "a cat ", "response": "sat"}, {"prompt": "a fox ", "completion": "jumped"}]
    file = tmp_path / "examples.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    (ids,) = writer.ids(["the dog"], read_examples(file))
    pieces = ["a cat ", f"sat{BETWEEN}", "a fox ", f"jumped{BETWEEN}", "the dog"]
    expected = [1, *(i for piece in writer._tokens.ids(pieces) for i in piece)]
    np.testing.assert_array_equal(ids[:1], [1])
    assert ids.tolist() == expected


def test_many_prompts_keep_their_order(folder):
    """More than fit into one batch, of which the last is not full."""
    prompts = [f"{'the ' * (1 + i % 3)}cat" for i in range(11)]
    counts = []
    writer = Writer(folder, GenerateSettings(max_length=18))
    many = writer.write(writer.ids(prompts), lambda *count: counts.append(count))
    assert counts == [(8, 11), (11, 11)]
    for prompt, one in zip(prompts[8:], many[8:], strict=True):
        assert [one] == writer.write(writer.ids([prompt]))


def test_it_ends_where_the_model_ends(writer):
    """What stands behind the end token is no part of the text; the space before a word is."""
    cat, sat = writer._tokens.ids(["a cat", "sat on"])
    prompt = np.concatenate([[1], cat])
    whole = writer._continuation(prompt, np.concatenate([prompt, sat, [2, 5, 5]]))
    assert whole == (" sat on", True)
    assert writer._continuation(prompt, np.concatenate([prompt, sat])) == (" sat on", False)


def test_prompts_of_files(tmp_path):
    text, rows = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    text.write_text("one\n\n two \n")
    rows.write_text('{"prompt": "one"}\n{"prompt": "two\\nlines", "response": "x"}\n')
    assert read_prompts(text) == ["one", " two "]
    assert read_prompts(rows) == ["one", "two\nlines"]


SPECIAL = {
    "gpt2": ("a <|endoftext|> b", {0}),
    "llama": ("a <s> b </s> c <unk>", {1, 2}),
    "gemma": ("a <bos> b <eos> <pad>", {0, 1, 2}),
}


@pytest.mark.parametrize("family", SPECIAL)
def test_a_text_cannot_write_a_special_token(family):
    text, ids = SPECIAL[family]
    tokens = Tokens(text_cases.tokenizers()[family]())
    (found,) = tokens.ids([text])
    assert not set(found.tolist()) & ids and len(found) > 3
    if family == "gpt2":
        assert tokens.tokenizer.detokenize(found) == text
        stock = text_cases.tokenizers()["gpt2"]()
        assert 0 in stock.tokenize([text])[0]  # else KerasHub has come to do so by itself


def test_marks_of_turns_are_read_as_text_and_other_pieces_as_they_are():
    """Pieces that a sentencepiece model calls defined by its user, as Gemma's does of turns."""
    import keras_hub

    options = {
        "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_piece": "<pad>",
        "bos_piece": "<bos>", "eos_piece": "<eos>", "unk_piece": "<unk>",
        "user_defined_symbols": "<start_of_turn>,<end_of_turn>,<h1>",
    }  # fmt: skip
    tokenizer = keras_hub.models.GemmaTokenizer(text_cases.sentence_pieces(**options))
    text = ["<start_of_turn>a fox<end_of_turn><h1>"]
    assert {4, 5, 6} <= set(tokenizer.tokenize(text)[0])
    found = set(Tokens(tokenizer).ids(text)[0].tolist())
    assert 6 in found and not {4, 5} & found


REFUSED = {
    "no prompt": ([], "--prompt"),
    "an empty file": (["--prompts", "{tmp}/empty.txt"], "Received: an empty file"),
    "empty lines": (["--prompts", "{tmp}/lines.txt"], "Received: nothing but empty lines"),
    "no file": (["--prompts", "{tmp}/gone.txt"], "no file"),
    "an empty prompt": (["--prompt", " "], "must not be empty"),
    "too long a prompt": (["--prompt", "fox " * 30, "--max-length", "12"], "tokens for 'fox fox"),
    "another sampler's": (["--prompt", "a", "--p", "0.5"], "samplers top_p"),
    "examples of labels": (["--prompt", "a", "--examples", "{tmp}/labels.jsonl"], "response"),
    "examples of text": (["--prompt", "a", "--examples", "{tmp}/some.txt"], "must be a .jsonl"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_line_and_exit_code_2(case, folder, tmp_path, capsys):
    arguments, said = REFUSED[case]
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "lines.txt").write_text(" \n\n")
    (tmp_path / "some.txt").write_text("some text")
    (tmp_path / "labels.jsonl").write_text('{"text": "a", "label": "b"}')
    words = [word.format(tmp=tmp_path) for word in arguments]
    assert run(["generate", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_what_cannot_write_is_refused(tmp_path, capsys):
    causal_cases.folder(tmp_path / "mute", "GPT2")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").write_bytes(b"")
    for name, said in {"run": "kerastl predict", "mute": "tokenizer", "gone": "preset"}.items():
        assert run(["generate", str(tmp_path / name), "--prompt", "a"]) == 2
        assert said in capsys.readouterr().err


def test_longer_than_the_positions_is_refused(tmp_path):
    tokenizer = text_cases.tokenizers()["gpt2"]()
    size = tokenizer.vocabulary_size()
    save_preset(causal_cases.task("GPT2", tokenizer, vocabulary_size=size), tmp_path / "gpt2")
    with pytest.raises(ValueError, match="at most 24"):
        generate(tmp_path / "gpt2", "the cat", max_length=25)
    writer = Writer(tmp_path / "gpt2", GenerateSettings())
    assert writer._length(writer.ids(["the cat"])) == 24  # and not 128 more


def test_the_command_line_prints_json(folder, capsys):
    assert run(["generate", str(folder), "--prompt", "the cat", "--max-length", "9", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["continuations"]
    assert set(one) == {"prompt", "continuation", "is_whole"} and one["prompt"] == "the cat"
