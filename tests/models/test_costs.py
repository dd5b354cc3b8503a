"""Operations and cache bytes of a call, against sums written out by hand."""

from fixtures_models import fresh, llama_policy, mamba_policy, qwen2_policy
from stillroom.models.composite import sum_of
from stillroom.models.costs import costs_of


def test_a_tied_model_by_hand() -> None:
    """Two layers of width 16 with 4 query heads and 2 key-value heads of 4, in float32."""
    policy = qwen2_policy()
    known = costs_of(policy)
    assert known is not None
    # Attention of token t: 4 operations per layer, per number of its 16 query numbers, per token up to itself.
    attention = sum(4 * 2 * 16 * (t + 1) for t in range(5))
    assert known.flops(5) == 2 * policy.num_parameters() * 5 + attention
    # Keys and values, 2 layers, 2 heads of 4 numbers of 4 bytes.
    assert known.cache_bytes(5) == 5 * 2 * 2 * 2 * 4 * 4


def test_an_embedding_that_is_only_looked_up_costs_nothing() -> None:
    policy = llama_policy()
    known = costs_of(policy)
    assert known is not None
    rows, width = policy.model.get_input_embeddings().weight.shape
    assert known.weights == (policy.num_parameters() - int(rows) * int(width),)


def test_a_sum_of_models_costs_what_its_parts_cost() -> None:
    one, two = qwen2_policy(), fresh(qwen2_policy())
    alone, both = costs_of(one), costs_of(sum_of([(one, 1.0), (two, 1.0)]))
    assert alone is not None
    assert both is not None
    assert both.flops(7) == 2 * alone.flops(7)
    assert both.cache_bytes(7) == 2 * alone.cache_bytes(7)


def test_a_model_with_a_state_is_not_guessed_at() -> None:
    assert costs_of(mamba_policy()) is None
