"""The LSTM that `mgen bench --architecture lstm` compares with: `nn.LSTM` and no more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from mgen.models.lstm import LSTM_SIZES


class PlainLstm(nn.Module):
    """Embedding, `nn.LSTM` of the layers and width of `size`, and a tied output layer."""

    def __init__(self, size: str, vocab_size: int) -> None:
        super().__init__()
        width, layers = LSTM_SIZES[size]["hidden_size"], LSTM_SIZES[size]["num_hidden_layers"]
        self.embed = nn.Embedding(vocab_size, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, vocab_size, bias=False)
        self.head.weight = self.embed.weight

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, past_key_values: Any = None
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, V) after `input_ids` (B, T), the state after the last one, and the loss of next tokens."""
        hidden, state = self.lstm(self.embed(input_ids), past_key_values)
        logits, loss = self.head(hidden), None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(loss, logits, state)

    @torch.no_grad()
    def sample(self, ids: Tensor, new: int) -> Tensor:
        """(B, new) tokens after `ids` (B, T), each with its log-probability, as policy gradient needs it."""
        found = self(ids)
        tokens, chosen = [], []
        for _ in range(new):
            logprobs = found.logits[:, -1].log_softmax(-1)
            tokens.append(torch.multinomial(logprobs.exp(), 1))
            chosen.append(logprobs.gather(1, tokens[-1]))
            found = self(tokens[-1], past_key_values=found.past_key_values)
        return torch.cat(tokens, 1)
