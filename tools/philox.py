"""The random numbers that Inlay draws while it trains (src/base/rng.c), written once more in whole numbers.

The generator is Philox4x32-10: ten rounds over a counter of four 32-bit words with a key of two. A number
is a function of

    key      (seed, seed >> 32)
    counter  (block, step, site, purpose)
    index    of a 32-bit word: word index % 4 of block index / 4
             of a number below n: the 64 bits of words 2 (index % 2), high, and the next, low, of block index / 2,
             times n, >> 64

`purpose` says what is drawn, `site` for which of several places, `step` in which step of the training (of a mask: in
which row or column):

    DROP_PATH  the samples of a branch (site: its number in the order of the graph); index: the sample
    DROPOUT  the elements of a matrix (site: as above); index: the element, counted over all samples
    CHOICE   expert of a side (site: its number among the sides, in the order in which the method declares them); index:
             the pass
    GUMBEL   noise of a switch (site: its number in the order of the graph); words 2 i and 2 i + 1 are sample i's, for
             skip and for adapter
    MASK     partition of a side's entries; index i draws the exchange of entry i in Fisher and Yates' shuffle, from the
             last entry down
"""

import math

DROP_PATH, DROPOUT, CHOICE, GUMBEL, MASK = 3, 4, 6, 7, 8
WORD = 0xFFFFFFFF


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & WORD, a >> 32 ^ c[3] ^ k[1], a & WORD]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


def block(seed, purpose, site, step, number):
    return philox((number, step, site, purpose), (seed & WORD, seed >> 32))


def uniform(seed, purpose, site, step, index):
    """In [0, 1), a multiple of 2^-32."""
    return block(seed, purpose, site, step, index // 4)[index % 4] / 2**32


def below(seed, purpose, site, step, index, n):
    words = block(seed, purpose, site, step, index // 2)[2 * (index % 2) :]
    return (words[0] << 32 | words[1]) * n >> 64


def permutation(seed, purpose, site, step, count):
    order = list(range(count))
    for i in range(count - 1, 0, -1):
        j = below(seed, purpose, site, step, i, i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def gumbel(seed, site, step, index):
    return -math.log(-math.log(uniform(seed, GUMBEL, site, step, index) + 2**-33))


def dropped(seed, site, step, sample, rate):
    return uniform(seed, DROP_PATH, site, step, sample) < rate


def kept(seed, site, step, count, rate):
    """Which of `count` elements dropout leaves."""
    limit = int(rate * 2**32)
    words = [w for number in range((count + 3) // 4) for w in block(seed, DROPOUT, site, step, number)]
    return [w >= limit for w in words[:count]]


def expert(seed, site, step, which, count):
    """What pass number `which` of a step draws among `count` experts."""
    return below(seed, CHOICE, site, step, which, count)


def partition(seed, site, line, count, parts):
    """part[i]: the part of entry i when `count` entries are dealt out at random to parts of equal size."""
    part, order = [0] * count, permutation(seed, MASK, site, line, count)
    for p in range(parts):
        for i in order[p * count // parts : (p + 1) * count // parts]:
            part[i] = p
    return part


# Known answers of the Random123 distribution: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((WORD,) * 4, (WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
assert all(tuple(philox(counter, key)) == result for counter, key, result in KNOWN)
