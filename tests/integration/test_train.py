"""What a profile is made by: every kind of request is answered, so that none is missing in it without a word."""

import train


def test_each_kind_of_request_is_answered(monkeypatch):
    monkeypatch.setattr(train, "CLIENTS", 2)
    for name in ("TO_SERVE", "TO_HOOKS"):
        monkeypatch.setattr(train, name, [(request, 2) for request, _ in getattr(train, name)])
    train.train()
