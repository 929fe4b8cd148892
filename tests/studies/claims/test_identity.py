"""The exact part of claim C7."""

from mamlcli.studies.claims import identity


def test_identity_of_three_layers_and_kfo_holds_to_rounding_at_every_step():
    assert identity.identity_error(num_steps=1) < identity.IDENTITY_TOLERANCE
    assert identity.identity_error(num_steps=5, seed=3) < identity.IDENTITY_TOLERANCE


def test_identity_check_would_notice_a_wrong_operator(monkeypatch):
    # Without psd the factors are U^T and A themselves, which do not even fit: the check compares two real paths.
    from mamlcli.engine.transforms import KFO

    class Off(KFO):
        def factors(self, xi, name):
            left, right = super().factors(xi, name)
            return 1.001 * left, right

    monkeypatch.setattr("mamlcli.studies.claims.identity.KFO", Off)
    assert identity.identity_error() > 1e-4
