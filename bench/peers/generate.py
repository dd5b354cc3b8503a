"""transformers' `generate` as a side: batches padded on the left, sampling at temperature 1 without top-k.

Settings: `batch` rows at a time; `cache` dynamic or static; `scores`: the log-probabilities of what was drawn too.
"""

from collections.abc import Callable
from typing import Any


def sample(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    # The checkpoint's own settings must not fill in what is left out here.
    model.generation_config = GenerationConfig()
    samples, rows, scores = job["samples"], job["batch"] // job["samples"], job.get("scores", False)
    ends = torch.tensor(job["end_ids"], dtype=torch.long)
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=job["new_tokens"],
        eos_token_id=job["end_ids"] or None,
        pad_token_id=job["pad_id"],
        num_return_sequences=samples,
        use_cache=True,
        cache_implementation=None if job["cache"] == "dynamic" else job["cache"],
        output_scores=scores,
        return_dict_in_generate=True,
    )
    prompts = sorted(job["prompt_ids"], key=len)
    batches = [_padded(prompts[at : at + rows], job["pad_id"]) for at in range(0, len(prompts), rows)]
    seed = 0

    @torch.inference_mode()
    def one_round() -> dict[str, Any]:
        nonlocal seed
        seed += 1
        torch.manual_seed(seed)
        lengths = []
        for ids, mask in batches:
            found = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
            if scores:
                model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
            new = found.sequences[:, ids.shape[1] :]
            ended = torch.isin(new, ends)
            first = torch.where(ended.any(1), ended.long().argmax(1) + 1, new.shape[1])
            lengths += first.tolist()
        return {
            "amount": sum(lengths),
            "mean_length": sum(lengths) / len(lengths),
            "prompt_tokens": samples * sum(map(len, prompts)),
        }

    return one_round


def _padded(prompts: list[list[int]], pad: int) -> tuple[Any, Any]:
    """Ids and mask [rows, longest] of prompts that all end at the right edge."""
    import torch

    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)
