#!/usr/bin/env python3
"""PyTorch on the suite's models, for comparison: median milliseconds of eager and, on request, of torch.compile.

    python3 bench/peer_pytorch.py --models BertForMaskedLM,T5Small --batch 4 --threads 2 [--compile] [--repeat 10]

Needs torch and transformers 4.38 (hfbench itself needs neither). Random weights, nothing is downloaded. Inputs follow
the reference suite: ids and labels uniform, labels always given, so a loss is computed. One JSON line for each model.
"""
import argparse
import json
import statistics
import time

import torch
import transformers as T


def config_of(name):
    if name == "CamemBert":
        return T.CamembertForMaskedLM, T.CamembertConfig(vocab_size=32005, max_position_embeddings=514, type_vocab_size=1,
                                                         layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=5, eos_token_id=6)
    if name == "DistillGPT2":
        return T.GPT2LMHeadModel, T.GPT2Config(n_layer=6)
    if name == "GoogleFnet":
        return T.FNetForMaskedLM, T.FNetConfig()
    if name == "T5Small":
        return T.T5ForConditionalGeneration, T.T5Config(decoder_start_token_id=0)
    cls = getattr(T, name)
    config = cls.config_class()
    if name.startswith("Roberta") or name == "GPT2ForSequenceClassification":
        config.pad_token_id = 0
    return cls, config


def sequence(name):
    if name.startswith(("GPT2", "Bart", "T5")):
        return 1024
    return 128 if name.startswith("DistilBert") else 512


def inputs_of(name, config, batch):
    seq, vocab = sequence(name), config.vocab_size
    ids = torch.zeros(batch, seq, dtype=torch.long) if name.startswith("Roberta") else torch.randint(0, vocab, (batch, seq))
    args = {"input_ids": ids}
    if name.startswith("T5"):
        args["decoder_input_ids"] = ids
    if name.endswith("QuestionAnswering"):
        args["start_positions"] = torch.randint(0, seq, (batch,))
        args["end_positions"] = torch.randint(0, seq, (batch,))
    elif name.endswith("SequenceClassification"):
        args["labels"] = torch.zeros(batch, dtype=torch.long)
    else:
        args["labels"] = torch.randint(0, vocab - 1, (batch, seq))
    return args


def median_ms(model, args, repeat):
    times = []
    with torch.no_grad():
        for _ in range(2):
            model(**args)
        for _ in range(repeat):
            start = time.perf_counter()
            model(**args)
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1337)
    for name in options.models.split(","):
        cls, config = config_of(name)
        model = cls(config).eval()
        args = inputs_of(name, config, options.batch)
        eager_ms, eager_min_ms = median_ms(model, args, options.repeat)
        row = {"name": name, "batch_size": options.batch, "threads": options.threads, "torch": torch.__version__,
               "eager_ms": round(eager_ms, 2), "eager_min_ms": round(eager_min_ms, 2)}
        if options.compile:
            start = time.perf_counter()
            compiled = torch.compile(model)
            with torch.no_grad():
                compiled(**args)
            row["first_call_s"] = round(time.perf_counter() - start, 2)
            inductor_ms, inductor_min_ms = median_ms(compiled, args, options.repeat)
            row.update(inductor_ms=round(inductor_ms, 2), inductor_min_ms=round(inductor_min_ms, 2))
        print(json.dumps(row), flush=True)
        del model, args


if __name__ == "__main__":
    main()
