"""Gradients of weight matrices that are not multiplied out."""

import pytest
import torch

from mamlcli.engine.explicit.gradients import Product, all_plus, multiplied_out
from tests.helpers.numerics import normal

TERMS = [(normal(2, n, 4, key=f"a {n}"), normal(2, n, 5, key=f"b {n}")) for n in (3, 1, 6)]


@pytest.mark.parametrize("num_terms", [1, 2, 3])
def test_product_is_the_sum_of_its_terms(num_terms):
    terms = tuple(TERMS[:num_terms])
    expected = sum(torch.einsum("tno,tni->toi", a, b) for a, b in terms)
    torch.testing.assert_close(multiplied_out(Product(terms)), expected)
    value = normal(2, 4, 5, key="value")
    before = value.clone()
    torch.testing.assert_close(all_plus([value], [Product(terms)], -0.3)[0], before - 0.3 * expected)
    assert torch.equal(value, before)


def test_product_is_added_to_one_matrix_of_all_tasks():
    value = normal(4, 5, key="shared").expand(2, 4, 5)
    [found] = all_plus([value], [Product((TERMS[0],))], 2.0)
    torch.testing.assert_close(found, value + 2 * multiplied_out(Product((TERMS[0],))))
    assert found.is_contiguous()


def test_tensor_is_itself_and_is_added_beside_products():
    gradient, value, matrix = normal(2, 4, key="gradient"), normal(2, 4, key="value"), normal(2, 4, 5, key="matrix")
    product = Product((TERMS[0],))
    assert multiplied_out(gradient) is gradient
    found = all_plus([value, matrix, value], [gradient, product, 2 * gradient], -0.3)
    expected = [value - 0.3 * gradient, matrix - 0.3 * multiplied_out(product), value - 0.6 * gradient]
    torch.testing.assert_close(found, expected)
    assert all_plus([], [], 1.0) == []
