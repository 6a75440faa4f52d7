"""15.4 neighbour_votes: a classifier that is not trained at all."""

import torch
import torch.nn.functional as F

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, single
from vitlib.check.probing import draw, in_single, returns


def neighbour_votes(train, labels, queries, k, num_classes, temperature):
    train, queries = F.normalize(train, dim=-1), F.normalize(queries, dim=-1)
    similarity, index = (queries @ train.T).topk(k, dim=-1)  # (m, k)
    weights = (similarity / temperature).exp()
    votes = torch.zeros(len(queries), num_classes, dtype=weights.dtype)
    votes.scatter_add_(1, labels[index], weights)
    return votes / votes.sum(dim=-1, keepdim=True)


def by_one_hot(train, labels, queries, k, num_classes, temperature):
    similarity = F.cosine_similarity(queries[:, None], train[None], dim=-1)
    nearest = similarity.topk(k)
    shares = (nearest.values / temperature).softmax(dim=-1)
    classes = F.one_hot(labels[nearest.indices], num_classes).to(shares.dtype)  # (m, k, K)
    return (shares[..., None] * classes).sum(dim=1)


def by_loops(train, labels, queries, k, num_classes, temperature):
    rows = []
    for query in queries:
        similarity = train @ query / train.norm(dim=1) / query.norm()
        votes = [similarity.new_zeros(()) for _ in range(num_classes)]
        for i in similarity.argsort(descending=True)[:k]:
            votes[labels[i]] = votes[labels[i]] + (similarity[i] / temperature).exp()
        rows.append(torch.stack(votes))
    rows = torch.stack(rows)
    return rows / rows.sum(dim=1, keepdim=True)


def cases(answer) -> Cases:
    def run(n, m, width, k, classes, temperature, seed=0):
        sizes = numbers(n, 1, seed=seed + 2).exp()
        train = numbers(n, width, seed=seed) * sizes
        queries = numbers(m, width, seed=seed + 1) * numbers(m, 1, seed=seed + 3).exp()
        labels = torch.arange(n) * 2 % classes
        return single(call(answer, train, labels, queries, k, classes, temperature))

    yield "9 photos in 3 classes, 4 queries, k = 5", lambda: run(9, 4, 3, 5, 3, 0.5)
    yield "k = 1", lambda: run(7, 5, 4, 1, 4, 0.3, seed=10)
    yield "all photos vote", lambda: run(6, 3, 2, 6, 5, 1.5, seed=20)
    yield "a temperature of 0.07", lambda: run(8, 6, 5, 4, 3, 0.07, seed=30)


MUTANTS = edits(neighbour_votes, """
lengths_kept: train, queries = F.normalize(train, dim=-1), F.normalize(queries, dim=-1) →
    The similarity is a plain product, in which long features win. Cosine similarity divides by both
    lengths: normalise the features first.
train_not_normalised: F.normalize(train, dim=-1), → train,
    The training features keep their lengths, and long ones win. Cosine similarity divides by both
    lengths.
queries_not_normalised: F.normalize(queries, dim=-1) → queries
    The queries keep their lengths. That leaves the order of the neighbours, but a long query weighs
    its neighbours more unequally. Cosine similarity divides by both lengths.
normalised_by_channel: F.normalize(train, dim=-1), F.normalize(queries, dim=-1) →
→ F.normalize(train, dim=0), F.normalize(queries, dim=0)
    Each channel is normalised over the photos. Each photo's feature vector should have length 1:
    dim=-1.
distances: (queries @ train.T).topk → (-torch.cdist(queries, train)).topk
    The neighbours are weighed by their distance. The task says cosine similarity.
farthest: topk(k, dim=-1) → topk(k, dim=-1, largest=False)
    These are the photos that are *least* like the query. Take the largest similarities.
everyone: topk(k, dim=-1) → topk(len(train), dim=-1)
    Every photo votes, and k is not used. Only the k nearest do.
one_fewer: topk(k, dim=-1) → topk(max(k - 1, 1), dim=-1)
    One neighbour is missing: k of them vote.
not_itself: .topk(k, dim=-1)  # (m, k) → .topk(min(k + 1, len(train)), dim=-1)
→ if k < len(train):
→     similarity, index = similarity[:, 1:], index[:, 1:]
    The nearest photo is left out. That is right where the queries are the training photos
    themselves; here they are others.
unweighted: (similarity / temperature).exp() → torch.ones_like(similarity)
    Every neighbour has one vote. A vote should weigh exp(similarity / temperature).
not_exponential: (similarity / temperature).exp() → similarity / temperature
    The votes are weighed by the similarity itself, which may be negative. Take
    exp(similarity / temperature).
temperature_ignored: (similarity / temperature).exp() → similarity.exp()
    The temperature has no effect: either it is not used, or it divides after exp, where the shares
    cancel it. Divide the similarity by it, inside exp.
temperature_multiplied: similarity / temperature → similarity * temperature
    The similarity is multiplied by the temperature. Divided by it, a low temperature lets the
    nearest decide.
distance_for_similarity: (similarity / temperature).exp() → (-similarity / temperature).exp()
    The sign is turned over: of the k neighbours, the least similar weighs most.
places_for_labels: labels[index] → index % num_classes
    The *places* of the neighbours are taken for their classes. Look up labels[index].
last_vote_only: votes.scatter_add_(1, labels[index], weights) →
→ for i in range(k):
→     votes[torch.arange(len(queries)), labels[index[:, i]]] = weights[:, i]
    Of several neighbours of one class, only the last counts: each overwrites the one before. Add
    their weights.
largest_vote: votes.scatter_add_(1, labels[index], weights) →
→ votes.scatter_reduce_(1, labels[index], weights, "amax")
    Of several neighbours of one class, only the nearest counts. Add their weights.
mean_vote: votes.scatter_add_(1, labels[index], weights) →
→ votes.scatter_reduce_(1, labels[index], weights, "mean", include_self=False)
    The weights of a class are averaged, so that five neighbours count no more than one. Add them.
not_shares: return votes / votes.sum(dim=-1, keepdim=True) → return votes
    The votes are not divided by their sum. Shares of the votes are asked for, which sum to 1.
divided_by_k: votes.sum(dim=-1, keepdim=True) → k
    The votes are divided by k. They weigh differently: divide by their sum, so that the shares sum
    to 1.
softmax_of_votes: votes / votes.sum(dim=-1, keepdim=True) → votes.softmax(dim=-1)
    A softmax is taken of the votes: classes without any neighbour get a share. Divide the votes by
    their sum.
shares_of_the_largest: votes.sum(dim=-1, keepdim=True) → votes.amax(dim=-1, keepdim=True)
    The votes are divided by the largest. Divide by their sum, so that the shares sum to 1.
shares_by_class: votes.sum(dim=-1, keepdim=True) → votes.sum(dim=0, keepdim=True)
    The shares sum to 1 over the *queries*. Each query has its own votes: dim=-1.
the_winner: votes / votes.sum(dim=-1, keepdim=True) → votes.argmax(dim=-1)
    The winners came back. The shares of all classes are asked for, (m, K).
logarithms: votes / votes.sum(dim=-1, keepdim=True) →
→ (votes / votes.sum(dim=-1, keepdim=True)).log()
    The logarithms of the shares came back. Asked for are the shares.
""") | edits(by_one_hot, """
shares_among_all: similarity.topk(k) → (similarity / temperature).softmax(dim=-1).topk(k)
and: (nearest.values / temperature).softmax(dim=-1) → nearest.values
    The softmax runs over all photos, and then k of its shares are kept: they no longer sum to 1.
    Choose the k nearest first.
""")  # fmt: skip


def probe(answer):
    def given(n, m, width, k, classes, temperature, seed):
        train = draw(n, width, seed=seed) * draw(n, 1, seed=seed + 1).exp()
        queries = 3 * draw(m, width, seed=seed + 2) * draw(m, 1, seed=seed + 3).exp()
        return train, torch.arange(n) * 3 % classes, queries, k, classes, temperature

    tries = [given(10, 3, 4, 6, 4, 0.4, 0), given(7, 5, 3, 1, 2, 0.2, 10)]
    tries += [given(5, 4, 6, 5, 7, 2.0, 20), given(11, 2, 3, 7, 5, 0.1, 30)]
    return [in_single(returns(answer, *each)) for each in tries]


EXERCISE = Exercise(
    name="neighbour_votes",
    chapter="15_pretrained",
    task="neighbour_votes(train, labels, queries, k, num_classes, temperature) -> (m, K), shares "
    "that sum to 1: each query's k nearest of the train features (n, D), by cosine similarity s, "
    "vote for their labels (n,) with the weight exp(s / temperature)",
    reference=neighbour_votes,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_one_hot, by_loops],
    probe=probe,
)
