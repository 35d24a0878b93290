"""Text vectors and clusters, against scikit-learn's own agglomeration and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering
from sklearn.feature_extraction.text import TfidfVectorizer

from search.cluster import average_linkage, by_first, characters, cosine_distances, kmeans, words
from search.errors import ConfigError


def test_vectors_have_length_one_and_those_of_blank_texts_none():
    for vectors in (words, characters):
        rows = vectors(["3 + 4 = 7", " ", "3 * 4 = 12", ""])
        assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 0, 1, 0])
        assert vectors(["", " "]).shape[0] == 2 and not vectors(["", " "]).any()
        assert len(vectors([])) == 0


@given(st.lists(st.text("ab 12+\n", max_size=9), min_size=1, max_size=6).filter(lambda t: any(x.strip() for x in t)))
def test_vectors_are_those_of_scikit_learn(texts):
    plain = [" ".join(text.split()) for text in texts]  # its characters keep white space at the ends
    for mine, settings in (
        (words, {"analyzer": "word", "token_pattern": r"\w+|[^\w\s]"}),
        (characters, {"analyzer": "char", "ngram_range": (1, 4)}),
    ):
        theirs = TfidfVectorizer(lowercase=False, **settings).fit_transform(plain).toarray()
        assert mine(texts) == pytest.approx(theirs, abs=1e-12)


def test_single_digits_and_signs_are_words_and_only_characters_see_their_order():
    texts = ["3 + 4", "3 - 4", "4 + 3"]
    by_word, by_character = cosine_distances(words(texts)), cosine_distances(characters(texts))
    assert by_word[0, 1] > 0.1 and by_word[0, 2] == pytest.approx(0)
    assert by_character[0, 1] > 0.1 and by_character[0, 2] > 0.1


def test_cosine_distances_by_hand():
    found = cosine_distances(np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    wanted = np.array(
        [
            [0, 0, 1, 2, 1, 1],
            [0, 0, 1, 2, 1, 1],
            [1, 1, 0, 1, 1, 1],
            [2, 2, 1, 0, 1, 1],
            [1, 1, 1, 1, 0, 0],
            [1, 1, 1, 1, 0, 0],
        ]
    )
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("vectors", [np.zeros(3), np.array([[np.nan, 1.0]])])
def test_vectors_that_are_none_are_refused(vectors):
    with pytest.raises(ConfigError) as caught:
        cosine_distances(vectors)
    assert caught.value.field == "vectors"


@given(st.integers(2, 12), st.integers(0, 10**6), st.floats(0.05, 1.5))
def test_average_linkage_is_that_of_scikit_learn(n, seed, threshold):
    distances = cosine_distances(np.random.default_rng(seed).normal(size=(n, 3)))
    theirs = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=threshold
    ).fit_predict(distances)
    assert average_linkage(distances, threshold) == by_first(theirs.tolist())


def test_a_threshold_of_zero_joins_equal_vectors_and_one_of_two_everything():
    distances = cosine_distances(words(["a b", "c", "b a", "a c", "c"]))
    assert average_linkage(distances, 0) == [0, 1, 0, 2, 1]
    assert average_linkage(distances, 2) == [0] * 5
    assert average_linkage(np.zeros((0, 0)), 1) == []
    assert average_linkage(np.zeros((1, 1)), 1) == [0]


def test_groups_are_as_far_apart_as_their_pairs_on_average():
    """On a line at 0, 1 and 2.4: with single linkage 1.4 would join all, with complete linkage 2.4."""
    points = np.array([0.0, 1.0, 2.4])
    distances = np.abs(points[:, None] - points)
    assert average_linkage(distances, 1.89) == [0, 0, 1]
    assert average_linkage(distances, 1.91) == [0, 0, 0]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=16), st.integers(1, 5))
def test_well_parted_rows_are_the_clusters_whatever_their_order(kinds, k):
    corners = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], dtype=float)
    used = len(set(kinds))
    assert kmeans(corners[kinds], max(k, used)) == by_first(kinds)  # equal rows are never parted
    scattered = corners[kinds] + np.arange(len(kinds))[:, None] / 100
    assert kmeans(scattered, used) == by_first(kinds)


def test_clusters_are_those_of_least_spread_and_the_same_each_time():
    rows = np.array([[0.0], [1.0], [4.0], [5.0], [20.0]])
    assert kmeans(rows, 2) == [0, 0, 0, 0, 1]
    assert kmeans(rows, 3) == [0, 0, 1, 1, 2]
    assert kmeans(rows, 1) == [0] * 5
    assert kmeans(rows, 9) == [0, 1, 2, 3, 4]
    assert kmeans(rows[::-1], 3) == [0, 1, 1, 2, 2]


def test_clusters_of_texts():
    texts = ["2 + 2 = 4", "so it is 4: 2 + 2 = 4", "blue whales sing", "the whales sing blue", "2 + 2 = 4"]
    assert kmeans(words(texts), 2) == [0, 0, 1, 1, 0]
