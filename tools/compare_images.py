#!/usr/bin/env python3
"""Compares the pixels that Inlay decodes with Pillow's, over some hundreds of images of every format and mode, whole and cut.

Usage: compare_images.py IMAGE_PIXELS [FOLDER]: the program that is built from tools/image_pixels.c, and where the images are kept. Needs Pillow 13 and numpy.
An image counts as different when one of both refuses it or when a byte differs; AVIF, which Pillow decodes with a later libavif, by its largest difference."""
import io
import os
import random
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_image_fixtures import chunk, png, scene  # noqa: E402
import make_image_fixtures as fixtures  # noqa: E402

warnings.simplefilter("ignore")
SIZES = ((21, 15), (1, 1), (64, 33), (130, 70))


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def modes(width, height):
    """The same picture in every mode of Pillow."""
    rgb = scene(width, height)
    four = scene(width, height, 4)
    ramp = (np.arange(width * height).reshape(height, width) * 257) % 65536
    yield "1", Image.fromarray(rgb[:, :, 0] > 127)
    yield "L", Image.fromarray(rgb[:, :, 0])
    yield "LA", Image.fromarray(np.ascontiguousarray(rgb[:, :, :2]), "LA")
    yield "P", Image.fromarray(rgb).quantize(64)
    yield "P4", Image.fromarray(rgb).quantize(11)
    yield "RGB", Image.fromarray(rgb)
    yield "RGBA", Image.fromarray(four, "RGBA")
    yield "RGBX", Image.fromarray(four, "RGBX")
    yield "RGBa", Image.fromarray(four, "RGBA").convert("RGBa")
    yield "CMYK", Image.fromarray(four, "CMYK")
    yield "YCbCr", Image.fromarray(rgb).convert("YCbCr")
    yield "I;16", Image.fromarray((ramp % 700).astype(np.uint16))
    yield "I;16B", Image.frombytes("I;16B", (width, height), ramp.astype(">u2").tobytes())
    yield "I", Image.fromarray((ramp.astype(np.int32) - 300) * 3)
    yield "F", Image.fromarray((ramp % 700).astype(np.float32) / 2 - 20)


def by_pillow(kind, ending, variants):
    for width, height in SIZES:
        for mode, image in modes(width, height):
            for name, options in variants:
                try:
                    yield f"{mode.replace(';', '')}_{width}x{height}_{name}.{ending}", saved(image, kind, **options)
                except (OSError, ValueError, KeyError, RuntimeError, SystemError, TypeError):
                    continue  # a mode that this format cannot hold


def tiff(tags, data, order="<", big=False, offset_tags=(273,)):
    """A TIFF file of given tags {number: (type, values)}; `data` is one block, or several that follow the directory."""
    sizes = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 5: ("II", 8), 16: ("Q", 8)}
    blocks = data if isinstance(data, list) else [data]
    start = (16 if big else 8) + sum(len(b) for b in blocks)
    body = b"".join(blocks)
    places, at = [], 16 if big else 8
    for block in blocks:
        places.append(at)
        at += len(block)
    tags = dict(tags)
    for tag in offset_tags:
        tags[tag] = (4, places)
    directory, extra = b"", b""
    count = len(tags)
    after = start + (8 + 20 * count + 8 if big else 2 + 12 * count + 4)
    for number in sorted(tags):
        kind, values = tags[number]
        packed = struct.pack(order + str(len(values)) + sizes[kind][0], *values)
        room = 8 if big else 4
        if len(packed) > room:
            value = struct.pack(order + ("Q" if big else "I"), after + len(extra))
            extra += packed
        else:
            value = packed.ljust(room, b"\0")
        directory += struct.pack(order + "HH" + ("Q" if big else "I"), number, kind, len(values)) + value
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(order + "HHHQ", 43, 8, 0, start)
        return head + body + struct.pack(order + "Q", count) + directory + bytes(8) + extra
    return mark + struct.pack(order + "HI", 42, start) + body + struct.pack(order + "H", count) + directory + bytes(4) + extra


def packed_bits(samples, bits, order):
    """Rows of samples [height, n], each row filled to a whole byte."""
    if bits in (8, 16, 32):
        return samples.astype(order + {8: "u1", 16: "u2", 32: "u4"}[bits]).tobytes()
    rows = b""
    for row in samples:
        line = "".join(format(int(v), f"0{bits}b") for v in row)
        line += "0" * (-len(line) % 8)
        rows += bytes(int(line[i : i + 8], 2) for i in range(0, len(line), 8))
    return rows


def by_hand_tiffs():
    """What Pillow does not write: all depths, both byte orders, planes, tiles, bit orders, extra samples, orientations."""
    w, h = 21, 15
    rng = np.random.default_rng(7)
    base = lambda bits, samples, photometric, extra=(): {
        256: (3, [w]), 257: (3, [h]), 258: (3, [bits] * samples), 259: (3, [1]), 262: (3, [photometric]), 277: (3, [samples]), 278: (3, [h]),
        **({338: (3, list(extra))} if extra else {})}
    for order in "<>":
        end = "le" if order == "<" else "be"
        for photometric in (0, 1):
            for bits in (1, 2, 4, 8, 12, 16, 32):
                top = 2**31 if bits == 32 else 2**bits
                values = rng.integers(0, top, (h, w), dtype=np.int64)
                values[::2] %= 600
                for fill in (1, 2):
                    data = packed_bits(values % top, bits, order)
                    if fill == 2:
                        data = bytes(int(format(b, "08b")[::-1], 2) for b in data)
                    tags = base(bits, 1, photometric) | {279: (4, [len(data)]), 266: (3, [fill])}
                    yield f"grey{bits}_{photometric}_{fill}_{end}.tif", tiff(tags, data, order)
                    packed = zlib.compress(data)
                    yield f"grey{bits}_{photometric}_{fill}_{end}_deflate.tif", tiff(tags | {279: (4, [len(packed)]), 259: (3, [8])}, packed, order)
        for bits, kind in ((8, 2), (16, 2), (32, 2), (32, 3)):
            values = rng.integers(-300, 700, (h, w))
            if kind == 3:
                data = (values / 1.7).astype(order + "f4").tobytes()
            else:
                data = values.astype(order + f"i{bits // 8}").tobytes()
            tags = base(bits, 1, 1) | {339: (3, [kind]), 279: (4, [len(data)])}
            yield f"signed{bits}_{kind}_{end}.tif", tiff(tags, data, order)
        for photometric, colours in ((2, 3), (5, 4), (3, 1), (1, 1), (0, 1), (6, 3), (8, 3)):
            for extra in ((), (0,), (1,), (2,), (0, 0), (1, 0), (2, 0), (2, 0, 0)):
                for bits in (8, 16):
                    samples = colours + len(extra)
                    values = rng.integers(0, 2**bits, (h, w, samples))
                    tags = base(bits, samples, photometric, extra)
                    if photometric == 3:
                        tags[320] = (3, [int(v) for v in rng.integers(0, 65536, 3 << bits)]) if bits == 8 else (3, [0] * 3)
                    data = packed_bits(values.reshape(h, -1), bits, order)
                    name = f"kind{photometric}_{''.join(map(str, extra))}_{bits}_{end}"
                    yield name + ".tif", tiff(tags | {279: (4, [len(data)])}, data, order)
                    packed = zlib.compress(data)
                    yield name + "_deflate.tif", tiff(tags | {279: (4, [len(packed)]), 259: (3, [8])}, packed, order)
                    planes = [packed_bits(values[:, :, c], bits, order) for c in range(samples)]
                    yield name + "_planes.tif", tiff(tags | {279: (4, [len(p) for p in planes]), 284: (3, [2])}, planes, order)
                    planes = [zlib.compress(p) for p in planes]
                    yield name + "_planes_deflate.tif", tiff(tags | {279: (4, [len(p) for p in planes]), 284: (3, [2]), 259: (3, [8])}, planes, order)
        values = rng.integers(0, 256, (32, 32, 3))
        for compression in (1, 8):
            tiles = [values[y : y + 16, x : x + 16].astype(np.uint8).tobytes() for y in (0, 16) for x in (0, 16)]
            tiles = [zlib.compress(t) for t in tiles] if compression == 8 else tiles
            tags = base(8, 3, 2) | {256: (3, [32]), 257: (3, [32]), 259: (3, [compression]), 322: (3, [16]), 323: (3, [16]), 325: (4, [len(t) for t in tiles])}
            del tags[278]
            yield f"tiles_{compression}_{end}.tif", tiff(tags, tiles, order, offset_tags=(324,))
            yield f"tiles_{compression}_{end}_big.tif", tiff(tags, tiles, order, big=True, offset_tags=(324,))
        for orientation in range(0, 10):
            data = rng.integers(0, 256, (h, w, 3)).astype(np.uint8).tobytes()
            tags = base(8, 3, 2) | {274: (3, [orientation]), 279: (4, [len(data)])}
            yield f"turned{orientation}_{end}.tif", tiff(tags, data, order)
            packed = zlib.compress(data)
            yield f"turned{orientation}_{end}_deflate.tif", tiff(tags | {279: (4, [len(packed)]), 259: (3, [8])}, packed, order)


def gifs():
    frame, other = Image.fromarray(scene()).quantize(64), Image.fromarray(255 - scene()).quantize(7)
    for interlace in (0, 1):
        for transparency in (None, 0, 5, 63):
            options = {} if transparency is None else {"transparency": transparency}
            yield f"one_{interlace}_{transparency}.gif", saved(frame, "GIF", interlace=interlace, **options)
    for disposal in range(4):
        yield f"two_{disposal}.gif", saved(frame, "GIF", save_all=True, append_images=[other], disposal=disposal, duration=40)
    plain = saved(frame, "GIF", interlace=0)
    at = 13 + 3 * 64
    at = plain.index(b",\0\0\0\0", at)
    for name, screen, place in (("larger", (40, 30), (3, 2)), ("beyond", (10, 10), (5, 5)), ("beside", (21, 15), (4, 0)), ("empty_screen", (0, 0), (0, 0))):
        for background in (0, 9):
            for control in (b"", b"!\xf9\4\1\0\0\x0b\0", b"!\xf9\4\x08\0\0\x0b\0", b"!\xf9\4\1\0\0\xfe\0", b"!\xfe\3abc\0"):
                data = bytearray(plain)
                data[6:10] = struct.pack("<HH", *screen)
                data[11] = background
                data[at + 1 : at + 5] = struct.pack("<HH", *place)
                yield f"{name}_{background}_{control[:4].hex()}_{control[6:7].hex()}.gif", bytes(data[:at]) + control + bytes(data[at:])
    # local colours, and none at all
    body = plain[at + 10 :]
    local = bytes((i * 37 + 5) % 256 for i in range(3 * 64))
    for flags in (0x85, 0xC5):
        yield f"local_{flags:x}.gif", plain[:at] + plain[at : at + 9] + bytes([flags]) + local + body
    head = plain[:10] + b"\0\0\0"
    yield "no_colours.gif", head + plain[at:]
    yield "only_local.gif", head + plain[at : at + 9] + bytes([0x85]) + local + body
    yield "few_colours.gif", plain[:10] + bytes([plain[10] & 0xF8 | 1]) + plain[11:13] + plain[13:25] + plain[at:]
    yield "grey_palette.gif", plain[:13] + bytes(v for i in range(64) for v in (i, i, i)) + plain[at:]


def damaged_pngs():
    """A wrong checksum in each kind of chunk, before and behind the pixels; a wrong checksum of the compressed data."""
    rgb = scene()
    kinds = [b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"bKGD", b"sBIT", b"hIST", b"eXIf", b"abCd", b"ABCD", b"acTL", b"fcTL"]
    bodies = {b"PLTE": bytes(range(48)), b"gAMA": struct.pack(">I", 45455), b"cHRM": bytes(32), b"sRGB": b"\0", b"tEXt": b"Title\0x", b"zTXt": b"Title\0\0" + zlib.compress(b"x"),
              b"iTXt": b"Title\0\0\0\0\0x", b"tIME": b"\x07\xe6\1\1\1\1\1", b"pHYs": bytes(9), b"bKGD": bytes(6), b"sBIT": b"\x08\x08\x08", b"tRNS": bytes(6),
              b"iCCP": b"x\0\0" + zlib.compress(b"y"), b"eXIf": b"II*\0\x08\0\0\0\0\0", b"hIST": bytes(32), b"acTL": struct.pack(">II", 1, 0),
              b"fcTL": struct.pack(">IIIIIHHBB", 0, 21, 15, 0, 0, 1, 1, 0, 0)}
    whole = png(rgb, 8, 2)
    idat = whole.index(b"IDAT") - 4
    iend = whole.index(b"IEND") - 4
    spoil = lambda data: data[:-1] + bytes([data[-1] ^ 0x55])
    for kind in kinds:
        good = chunk(kind, bodies.get(kind, b"data"))
        for what, part in (("good", good), ("bad", spoil(good))):
            yield f"{kind.decode()}_{what}_before.png", whole[:idat] + part + whole[idat:]
            yield f"{kind.decode()}_{what}_behind.png", whole[:iend] + part + whole[iend:]
    yield "IHDR_bad.png", whole[:32] + bytes([whole[32] ^ 1]) + whole[33:]
    yield "IDAT_bad.png", whole[: iend - 1] + bytes([whole[iend - 1] ^ 1]) + whole[iend:]
    yield "IEND_bad.png", spoil(whole)
    yield "no_IEND.png", whole[:iend]
    raw = whole[idat + 8 : iend - 4]
    for name, data in (("adler", raw[:-1] + bytes([raw[-1] ^ 1])), ("no_adler", raw[:-4]), ("short", raw[: len(raw) // 2]), ("middle", raw[:100] + bytes([raw[100] ^ 8]) + raw[101:]),
                       ("more", raw + b"more")):
        yield f"zlib_{name}.png", whole[:idat] + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    yield "split.png", whole[:idat] + chunk(b"IDAT", raw[:50]) + chunk(b"IDAT", b"") + chunk(b"IDAT", raw[50:]) + chunk(b"IEND", b"")
    yield "apart.png", whole[:idat] + chunk(b"IDAT", raw[:50]) + chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", raw[50:]) + chunk(b"IEND", b"")


def animations():
    frames = [Image.fromarray(scene()), Image.fromarray(255 - scene()), Image.fromarray(scene()[::-1].copy())]
    for name, options in (("plain", {}), ("default", {"default_image": True}), ("blend", {"blend": 1, "disposal": 2})):
        yield f"apng_{name}.png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:], **options)
    for quality in (50, 100):
        yield f"animation_{quality}.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=quality)
        yield f"animation_{quality}.avif", saved(frames[0], "AVIF", save_all=True, append_images=frames[1:], quality=quality)
    for compression in ("raw", "tiff_lzw"):
        yield f"pages_{compression}.tif", saved(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression=compression)


def bitmaps():
    rgb = scene()
    bits = rgb[:, :, 0] > 127
    for name, data in fixtures.bmps():
        yield name.replace(".bmp", ".dib"), data[14:]
    text = "\n".join("".join("10"[int(v)] for v in row) for row in bits)
    yield "plain.pbm", b"P1\n# note\n21 15\n" + text.encode() + b"\n"
    yield "spaced.pbm", b"P1 21 15 " + " ".join(text.replace("\n", "")).encode()


def collection():
    tiffs = [("raw", {}), *((c, {"compression": c}) for c in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "group3", "group4", "tiff_ccitt", "jpeg",
                                                               "lzma", "zstd", "webp")),
             ("strips", {"compression": "tiff_lzw", "strip_size": 256}), ("predictor", {"compression": "tiff_lzw", "tiffinfo": {317: 2}}),
             ("predictor_deflate", {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 2}}), ("big", {"big_tiff": True}), ("jpeg_q", {"compression": "jpeg", "quality": 30})]
    yield from by_pillow("TIFF", "tif", tiffs)
    yield from by_hand_tiffs()
    yield from by_pillow("GIF", "gif", [("plain", {"interlace": 0}), ("interlaced", {"interlace": 1})])
    yield from gifs()
    yield from by_pillow("PNG", "png", [("plain", {}), ("fast", {"compress_level": 1})])
    yield from damaged_pngs()
    yield from by_pillow("JPEG", "jpg", [("q75", {}), ("q95_444", {"quality": 95, "subsampling": 0}), ("progressive", {"progressive": True}), ("422", {"subsampling": 1})])
    yield from by_pillow("WEBP", "webp", [("lossy", {}), ("lossless", {"lossless": True})])
    yield from by_pillow("BMP", "bmp", [("plain", {})])
    yield from by_pillow("PPM", "pnm", [("plain", {})])
    yield from by_pillow("AVIF", "avif", [("q75", {}), ("q100_444", {"quality": 100, "subsampling": "4:4:4"}), ("422", {"subsampling": "4:2:2"}), ("400", {"subsampling": "4:0:0"})])
    yield from animations()
    yield from bitmaps()
    for family in (fixtures.jpegs, fixtures.pngs, fixtures.webps, fixtures.bmps, fixtures.pnms):
        yield from family()


def with_cuts(files):
    """Each file, and some also cut at a place that its name decides."""
    for name, data in files:
        yield name, data
        draw = random.Random(name)
        if draw.random() < 0.3 and len(data) > 40:
            stem, ending = name.rsplit(".", 1)
            yield f"{stem}_cut.{ending}", data[: draw.randrange(20, len(data))]


def by_inlay(program, flags, paths):
    out = subprocess.run([program, *flags, *paths], check=True, stdout=subprocess.PIPE).stdout
    at, found = 0, []
    for _ in paths:
        end = out.index(b"\n", at)
        line = out[at:end].decode(errors="replace")
        at = end + 1
        if line.startswith("ok "):
            width, height, _cut = map(int, line.split()[1:])
            found.append(np.frombuffer(out, np.uint8, width * height * 3, at).reshape(height, width, 3))
            at += width * height * 3
        else:
            found.append(line)
    return found


def pillow(data, upright):
    try:
        image = Image.open(io.BytesIO(data))
        if upright:
            image = ImageOps.exif_transpose(image)
        return np.asarray(image.convert("RGB"))
    except Exception as error:  # noqa: BLE001 - whatever it raises, it does not read the file
        return f"{type(error).__name__}: {error}"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()
    os.makedirs(folder, exist_ok=True)
    files = list(with_cuts(collection()))
    paths = []
    for number, (name, data) in enumerate(files):
        paths.append(os.path.join(folder, f"{number:04d}_{name}"))
        with open(paths[-1], "wb") as f:
            f.write(data)
    counts, worst = {}, {}
    for upright in (False, True):
        answers = by_inlay(sys.argv[1], ["-u"] if upright else [], paths)
        for path, (name, data), ours in zip(paths, files, answers):
            theirs = pillow(data, upright)
            kind = name.rsplit(".", 1)[1]
            if isinstance(ours, str) and isinstance(theirs, str):
                verdict = "both refuse"
            elif isinstance(ours, str):
                verdict = "only Pillow reads"
            elif isinstance(theirs, str):
                verdict = "only Inlay reads"
            elif ours.shape != theirs.shape:
                verdict = "another size"
            else:
                gap = int(np.abs(ours.astype(int) - theirs).max())
                worst[kind] = max(worst.get(kind, 0), gap)
                verdict = "same" if gap == 0 else "another pixel"
            counts[kind, verdict] = counts.get((kind, verdict), 0) + 1
            if verdict not in ("same", "both refuse") and not upright:
                print(f"{verdict}: {path}", ours if isinstance(ours, str) else "", theirs if isinstance(theirs, str) else "")
    for (kind, verdict), count in sorted(counts.items()):
        print(f"{kind:6} {verdict:18} {count}")
    print("largest difference:", worst)
    return any(verdict not in ("same", "both refuse") and kind != "avif" for kind, verdict in counts)


if __name__ == "__main__":
    sys.exit(main())
