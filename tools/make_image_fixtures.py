#!/usr/bin/env python3
"""Makes tests/data/images: small images of every kind, what Pillow decodes them to, and hashes of what Pillow and timm
resize.

  decode.txt      <file> <width> <height> <width upright> <height upright>; pixels in <file>.rgb, of turned images
                  also in <file>.upright.rgb
  resize.txt      <source width> <height> <width> <height> <filter> <box or -> <hash>
  preprocess.txt  <source width> <height> <height> <width> <crop_pct> <mode> <filter> <hash>

The sources of the last two are synthetic (pattern below, repeated in the tests); hashes are 64-bit FNV-1a of the
pixels. Needs Pillow 13, pillow-jxl-plugin, numpy, torch and timm."""

import io
import os
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "images")
W, H = 21, 15
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def scene(width=W, height=H, channels=3):
    """Smooth colours with a hard edge and a little texture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [127 + 120 * np.sin(x / (3 + c) + c) * np.cos(y / (4 + c)) for c in range(channels)]
    image = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    image[height // 3 : height // 2, width // 4 : width // 2] = [250, 10, 60, 30][:channels]
    return image


def pattern(width, height):
    """The same in C: see tests/formats/test_resample.c."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3].astype(np.uint32)
    noise = ((x * np.uint32(73856093)) ^ (y * np.uint32(19349663)) ^ (c * np.uint32(83492791))) >> np.uint32(5)
    return ((noise & np.uint32(63)) + (x * np.uint32(2) + y + c * np.uint32(40)) % np.uint32(192)).astype(np.uint8)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, depth, color_type, interlaced=False, extra=b""):
    """samples[height, width, channels], values of `depth` bits."""
    height, width, _ = samples.shape

    def pack(part):
        rows = b""
        for row in part.reshape(part.shape[0], -1):
            if depth == 16:
                data = row.astype(">u2").tobytes()
            else:
                bits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
                data = np.packbits(bits.reshape(-1)).tobytes()
            rows += b"\0" + data
        return rows

    if interlaced:
        raw = b"".join(pack(samples[y0::dy, x0::dx]) for x0, y0, dx, dy in ADAM7 if samples[y0::dy, x0::dx].size)
    else:
        raw = pack(samples)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(raw, 9))
        + chunk(b"IEND", b"")
    )


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpegs():
    rgb, grey, cmyk = (
        Image.fromarray(scene()),
        Image.fromarray(scene()[:, :, 0]),
        Image.fromarray(scene(channels=4), "CMYK"),
    )
    for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
        yield f"ycbcr_{name}.jpg", saved(rgb, "JPEG", quality=85, subsampling=subsampling)
    yield "ycbcr_440.jpg", saved(rgb, "JPEG", quality=85, subsampling="4:2:0").replace(
        b"\x01\x22\x00\x02", b"\x01\x12\x00\x02"
    )
    yield "grey.jpg", saved(grey, "JPEG", quality=90)
    yield "progressive.jpg", saved(rgb, "JPEG", quality=80, progressive=True)
    yield "restart.jpg", saved(rgb, "JPEG", quality=80, restart_marker_blocks=1)
    yield "rgb.jpg", saved(rgb, "JPEG", quality=85, keep_rgb=True)
    adobe = saved(cmyk, "JPEG", quality=85)
    yield "cmyk_adobe.jpg", adobe
    at = adobe.index(b"\xff\xee")
    end = at + 2 + struct.unpack(">H", adobe[at + 2 : at + 4])[0]
    yield "cmyk_plain.jpg", adobe[:at] + adobe[end:]
    yield "ycck_adobe.jpg", adobe[: end - 1] + b"\2" + adobe[end:]
    small = Image.fromarray(scene(11, 7))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        yield f"exif_{orientation}.jpg", saved(small, "JPEG", quality=80, exif=exif)
    motorola = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    yield "exif_motorola.jpg", saved(small, "JPEG", quality=80, exif=motorola)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:D tiff:Orientation="8"/></x:xmpmeta>'
    yield "xmp_8.jpg", saved(small, "JPEG", quality=80, xmp=xmp)


def pngs():
    rgb = scene()
    grey, alpha = rgb[:, :, :1], 255 - rgb[:, :, 1:2]
    ramp = (np.arange(W * H).reshape(H, W, 1) * 257) % 65536
    low = np.arange(W * H).reshape(H, W, 1) % 600  # around the value at which mode I;16 is clipped
    for depth in (1, 2, 4):
        yield f"grey{depth}.png", png(grey >> (8 - depth), depth, 0)
        palette = chunk(b"PLTE", bytes((37 * i + 11) % 256 for i in range(3 << depth)))
        yield f"palette{depth}.png", png(grey >> (8 - depth), depth, 3, extra=palette)
    yield "grey8.png", png(grey, 8, 0)
    yield "grey8_trns.png", png(grey, 8, 0, extra=chunk(b"tRNS", struct.pack(">H", int(grey[0, 0, 0]))))
    yield "grey16.png", png(ramp, 16, 0)
    yield "grey16_low.png", png(low, 16, 0)
    yield "grey_alpha8.png", png(np.concatenate([grey, alpha], -1), 8, 4)
    yield "grey_alpha16.png", png(np.concatenate([ramp, 65535 - ramp], -1), 16, 4)
    yield "rgb8.png", png(rgb, 8, 2)
    yield "rgb16.png", png(np.concatenate([ramp, low, 65535 - ramp], -1), 16, 2)
    yield "rgba8.png", png(np.concatenate([rgb, alpha], -1), 8, 6)
    yield "rgba16.png", png(np.concatenate([ramp, low, 65535 - ramp, ramp], -1), 16, 6)
    palette = chunk(b"PLTE", bytes((91 * i + 5) % 256 for i in range(3 * 200)))
    yield "palette8_trns.png", png(grey, 8, 3, extra=palette + chunk(b"tRNS", bytes(range(100))))
    yield "interlaced_rgb8.png", png(rgb, 8, 2, interlaced=True)
    yield "interlaced_grey2.png", png(grey >> 6, 2, 0, interlaced=True)
    yield "interlaced_grey16.png", png(low, 16, 0, interlaced=True)
    yield "one_pixel.png", png(rgb[:1, :1], 8, 2)
    yield "gamma.png", png(rgb, 8, 2, extra=chunk(b"gAMA", struct.pack(">I", 100000)))
    exif = Image.Exif()
    exif[0x112] = 6
    yield "exif_6.png", saved(Image.fromarray(scene(11, 7)), "PNG", exif=exif)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "<a><tiff:Orientation>3</tiff:Orientation></a>")
    yield "xmp_3.png", saved(Image.fromarray(scene(11, 7)), "PNG", pnginfo=info)


def webps():
    rgb, rgba = Image.fromarray(scene()), Image.fromarray(np.concatenate([scene(), 255 - scene()[:, :, :1]], -1))
    yield "lossy.webp", saved(rgb, "WEBP", quality=70)
    yield "lossless.webp", saved(rgb, "WEBP", lossless=True)
    yield "lossy_alpha.webp", saved(rgba, "WEBP", quality=70, exact=True)
    yield "lossless_alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "animated.webp", saved(
        rgba, "WEBP", lossless=True, save_all=True, append_images=[rgba.transpose(1)], duration=50
    )
    exif = Image.Exif()
    exif[0x112] = 8
    yield "exif_8.webp", saved(Image.fromarray(scene(11, 7)), "WEBP", lossless=True, exif=exif)


def bmp(bits, rows, height, header=40, palette=b"", compression=0, masks=b"", colors=0, declared_height=None):
    declared = height if declared_height is None else declared_height
    if header == 12:
        info = struct.pack("<IHHHH", 12, W, declared, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, W, declared, 1, bits, compression, len(rows), 0, 0, colors, 0)
        info += masks + bytes(max(0, header - 40 - len(masks)))
    offset = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + info + palette + rows


def padded(data):
    return data + bytes(-len(data) % 4)


def bmps():
    rgb = scene()
    bgr = rgb[::-1, :, ::-1]
    grey = rgb[::-1, :, 0]
    quads = lambda n: b"".join(bytes([(37 * i) % 256, (91 * i + 7) % 256, (11 * i + 3) % 256, 0]) for i in range(n))
    yield "rgb24.bmp", saved(Image.fromarray(rgb), "BMP")
    yield "top_down.bmp", bmp(24, b"".join(padded(row.tobytes()) for row in bgr[::-1]), H, declared_height=-H)
    with_x = np.concatenate([bgr, np.full((H, W, 1), 77, np.uint8)], -1)
    yield "rgb32.bmp", bmp(32, with_x.tobytes(), H)
    swapped = struct.pack("<III", 0xFF, 0xFF00, 0xFF0000) + struct.pack("<I", 0xFF000000)
    yield "masks32.bmp", bmp(32, with_x[:, :, [2, 1, 0, 3]].tobytes(), H, header=108, compression=3, masks=swapped)
    words = np.arange(W * H, dtype=np.uint16).reshape(H, W) * np.uint16(163)
    yield "rgb555.bmp", bmp(16, b"".join(padded(row.astype("<u2").tobytes()) for row in words), H)
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    yield "rgb565.bmp", bmp(
        16, b"".join(padded(row.astype("<u2").tobytes()) for row in words), H, compression=3, masks=masks
    )
    yield "palette8.bmp", bmp(
        8, b"".join(padded(row.tobytes()) for row in grey // 2), H, palette=quads(128), colors=128
    )
    yield "grey8.bmp", saved(Image.fromarray(rgb[:, :, 0]), "BMP")
    nibbles = lambda row, bits: np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].reshape(-1)).tobytes()
    yield "palette4.bmp", bmp(4, b"".join(padded(nibbles(row >> 4, 4)) for row in grey), H, palette=quads(16))
    yield "palette1.bmp", bmp(1, b"".join(padded(nibbles(row >> 7, 1)) for row in grey), H, palette=quads(2))
    triples = b"".join(quads(256)[4 * i : 4 * i + 3] for i in range(256))
    yield "os2_palette8.bmp", bmp(8, b"".join(padded(row.tobytes()) for row in grey), H, header=12, palette=triples)
    absolute = lambda row: bytes([0, W]) + row.tobytes() + bytes(W & 1) + b"\0\0"
    runs = lambda row: b"".join(bytes([n, v]) for n, v in ((7, row[0]), (9, row[8]), (W - 16, row[20]))) + b"\0\0"
    rows = (
        b"".join(absolute(row) if i % 2 else runs(row) for i, row in enumerate(grey[:-2]))
        + b"\0\2\3\1"
        + bytes([W - 3, 9])
        + b"\0\1"
    )
    yield "rle8.bmp", bmp(8, rows, H, palette=quads(256), compression=1)
    absolute4 = lambda row: bytes([0, W]) + nibbles(row >> 4, 4) + bytes(((W + 1) // 2) & 1) + b"\0\0"
    rows = (
        b"".join(absolute4(row) if i % 2 else bytes([W, (i * 29) % 256]) + b"\0\0" for i, row in enumerate(grey))
        + b"\0\1"
    )
    yield "rle4.bmp", bmp(4, rows, H, palette=quads(16), compression=2)


def pnms():
    rgb = scene()
    wide = (np.arange(W * H * 3, dtype=np.uint32).reshape(H, W, 3) * 173) % 65536
    text = lambda samples: " ".join(str(v) for v in samples.reshape(-1)).encode()
    head = lambda kind, largest: b"P%d\n# made for a test\n%d %d\n%d\n" % (kind, W, H, largest)
    yield "rgb8.ppm", head(6, 255) + rgb.tobytes()
    yield "rgb100.ppm", head(6, 100) + (rgb % 101).tobytes()
    yield "rgb16.ppm", head(6, 65535) + wide.astype(">u2").tobytes()
    yield "rgb1000.ppm", head(6, 1000) + (wide % 1001).astype(">u2").tobytes()
    yield "plain.ppm", b"P3 %d 4 255 " % W + text(rgb[:4])
    yield "grey8.pgm", head(5, 255) + rgb[:, :, 0].tobytes()
    yield "grey15.pgm", head(5, 15) + (rgb[:, :, 0] >> 4).tobytes()
    yield "grey16.pgm", head(5, 65535) + (wide[:, :, 0] % 700).astype(">u2").tobytes()
    yield "grey3000.pgm", head(5, 3000) + (wide[:, :, 0] % 40).astype(">u2").tobytes()
    yield "plain.pgm", b"P2\n%d %d\n# note\n15\n" % (W, H) + text(rgb[:, :, 0] >> 4) + b"\n"


def jxls():
    """Without loss: of lossy files two versions of libjxl make pixels that differ by 1."""
    import pillow_jxl  # noqa: F401 - makes Pillow know the format

    for name, channels, mode in (("grey", 1, "L"), ("rgb", 3, "RGB"), ("rgba", 4, "RGBA")):
        samples = scene(channels=4)[:, :, :channels]
        image = Image.fromarray(np.ascontiguousarray(samples[:, :, 0] if channels == 1 else samples), mode)
        yield name + ".jxl", saved(image, "JXL", lossless=True)


CHOSEN = """
one_0_None.gif one_1_5.gif two_1.gif larger_9_21f90401_0b.gif larger_0_21f90401_fe.gif beyond_0__.gif local_85.gif
no_colours.gif few_colours.gif RGB_21x15_raw.tif RGB_21x15_tiff_lzw.tif RGB_21x15_predictor.tif RGB_21x15_packbits.tif
RGB_21x15_jpeg.tif L_21x15_jpeg.tif RGB_21x15_strips.tif RGB_21x15_zstd.tif RGB_21x15_lzma.tif RGB_21x15_big.tif
YCbCr_21x15_jpeg.tif YCbCr_21x15_raw.tif 1_21x15_group3.tif 1_21x15_group4.tif 1_21x15_tiff_ccitt.tif
P_21x15_tiff_adobe_deflate.tif LA_21x15_tiff_lzw.tif RGBA_21x15_strips.tif CMYK_21x15_tiff_lzw.tif I16_21x15_raw.tif
I16B_21x15_raw.tif I_21x15_tiff_lzw.tif F_21x15_raw.tif grey1_0_1_be.tif grey1_1_2_le.tif grey2_0_1_le.tif
grey4_0_2_be.tif grey4_1_1_le_deflate.tif grey8_0_1_be.tif grey12_1_1_le.tif grey16_0_1_le.tif grey32_1_1_le.tif
signed16_2_be.tif signed32_2_le.tif signed32_3_be.tif kind2__8_le_planes.tif kind2_1_8_le_deflate.tif
kind2_1_16_be.tif kind2_2_16_le_deflate.tif kind2_1_8_be_planes_deflate.tif kind5__8_le.tif kind5__16_be.tif
kind3__8_be_planes_deflate.tif kind1_2_8_le.tif tiles_1_le.tif tiles_8_be.tif tiles_1_le_big.tif
turned3_be_deflate.tif turned6_le.tif turned7_be.tif pages_tiff_lzw.tif RGB_21x15_q75.avif RGBA_21x15_q75.avif
L_21x15_400.avif RGB_21x15_422.avif RGB_21x15_q100_444.avif IDAT_bad.png IEND_bad.png no_IEND.png tEXt_bad_behind.png
ABCD_good_before.png apng_plain.png apng_default.png plain.pbm spaced.pbm 1_21x15_plain.pnm rgb24.dib palette4.dib
top_down.dib
""".split()
REFUSED = """
IHDR_bad.png tEXt_bad_before.png abCd_bad_before.png gAMA_bad_before.png zlib_adler.png zlib_short.png apart.png
""".split()


def chosen():
    """Some of the kinds that compare_images.py goes through."""
    import compare_images

    found = dict(compare_images.collection())
    for name in CHOSEN:
        yield name, found[name]
    for name in REFUSED:
        try:
            Image.open(io.BytesIO(found[name])).convert("RGB")
        except Exception:  # noqa: BLE001 - whatever Pillow raises, it does not read the file
            with open(os.path.join(OUT, "refused_" + name), "wb") as f:
                f.write(found[name])
        else:
            raise AssertionError(f"Pillow reads {name}")


def decoding():
    lines = []
    for family in (jpegs, pngs, webps, bmps, pnms, chosen, jxls):
        for name, data in family():
            with open(os.path.join(OUT, name), "wb") as f:
                f.write(data)
            image = Image.open(io.BytesIO(data))
            pixels = image.convert("RGB")
            upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
            with open(os.path.join(OUT, name + ".rgb"), "wb") as f:
                f.write(pixels.tobytes())
            if upright.size != pixels.size or upright.tobytes() != pixels.tobytes():
                with open(os.path.join(OUT, name + ".upright.rgb"), "wb") as f:
                    f.write(upright.tobytes())
            lines.append(f"{name} {pixels.width} {pixels.height} {upright.width} {upright.height}\n")
    with open(os.path.join(OUT, "decode.txt"), "w") as f:
        f.writelines(lines)


def resizing():
    cases = []
    for name in FILTERS:
        for source, target in (
            ((97, 61), (40, 33)),
            ((97, 61), (150, 200)),
            ((97, 61), (97, 30)),
            ((97, 61), (31, 61)),
            ((5, 4), (64, 3)),
            ((1, 1), (3, 2)),
            ((500, 375), (332, 248)),
            ((300, 7), (2, 40)),
            ((97, 61), (97, 61)),
            ((3, 1000), (1, 9)),
        ):
            cases.append((source, target, name, None))
        for box in ((10, 5, 90, 60), (0.5, 0.25, 96.3, 60.9), (20.1, 30.7, 21.3, 31.2), (0, 0, 97, 30), (3, 0, 50, 61)):
            cases.append(((97, 61), (47, 30), name, box))
    with open(os.path.join(OUT, "resize.txt"), "w") as f:
        for source, target, name, box in cases:
            image = Image.fromarray(pattern(*source)).resize(target, FILTERS[name], box=box)
            where = ",".join(repr(v) for v in box) if box else "-"
            f.write(f"{source[0]} {source[1]} {target[0]} {target[1]} {name} {where} {fnv(image.tobytes())}\n")


def preprocessing():
    from timm.data import create_transform

    cases = []
    for source in ((500, 375), (375, 500), (251, 250), (224, 224), (90, 333), (1000, 31), (37, 41)):
        for mode, crop_pct in (
            ("crop", 0.9),
            ("crop", 0.875),
            ("crop", 1.0),
            ("border", 0.9),
            ("border", 1.0),
            ("squash", 1.0),
        ):
            for name in ("bicubic", "bilinear"):
                cases.append((source, 56, 56, mode, crop_pct, name))
    for source in ((500, 375), (375, 500)):
        cases += [
            (source, 224, 224, "crop", 0.9, "bicubic"),
            (source, 48, 64, "crop", 0.875, "bicubic"),
            (source, 64, 48, "border", 0.95, "lanczos"),
            (source, 48, 64, "squash", 1.0, "box"),
            (source, 57, 57, "crop", 0.9, "hamming"),
        ]
    with open(os.path.join(OUT, "preprocess.txt"), "w") as f:
        for source, height, width, mode, crop_pct, name in cases:
            crop_mode = "center" if mode == "crop" else mode
            transform = create_transform(
                (3, height, width),
                interpolation=name,
                crop_pct=crop_pct,
                crop_mode=crop_mode,
                mean=(0.5, 0.4, 0.3),
                std=(1.0, 1.0, 1.0),
                use_prefetcher=True,
            )
            pixels = transform(Image.fromarray(pattern(*source)))  # with the prefetcher: uint8 [3, height, width]
            pixels = np.ascontiguousarray(np.transpose(np.asarray(pixels), (1, 2, 0)))
            assert pixels.dtype == np.uint8 and pixels.shape == (height, width, 3)
            f.write(f"{source[0]} {source[1]} {height} {width} {crop_pct!r} {mode} {name} {fnv(pixels.tobytes())}\n")


def main():
    os.makedirs(OUT, exist_ok=True)
    for stale in os.listdir(OUT):
        os.remove(os.path.join(OUT, stale))
    decoding()
    resizing()
    preprocessing()
    print(
        sum(os.path.getsize(os.path.join(OUT, name)) for name in os.listdir(OUT)),
        "bytes in",
        len(os.listdir(OUT)),
        "files",
    )


if __name__ == "__main__":
    sys.exit(main())
