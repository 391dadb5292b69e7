"""The figures of `evaluation` as Markdown tables for a model card."""

from __future__ import annotations

INVERSIONS = {"encoder": "encoder alone", "refined": "refined", "components": "principal components"}
COLUMNS = ("dlib", "psnr", "squeezenet", "landmarks")


def card(figures: dict[str, dict]) -> str:
    """Two tables: inversion by source set, then everything else; each line with its N."""
    return "\n".join([*_head(figures), "", *_inversion(figures), "", *_rest(figures), ""])


def _head(figures: dict) -> list[str]:
    base = figures["base"]
    return [f"`{base['name']}` (sha256 {base['hash'][:12]}…), {base['resolution']}² pixels; {figures['faces']['N']} "
            f"faces that no training saw; {base['device']}, {base['threads']} threads, torch {base['torch']}. Identity "
            "is the distance of dlib's face descriptors (below 0.6: the same person by dlib's own rule); landmarks are "
            "in shares of the outer eye corners' distance; SqueezeNet's is a distance of features, not LPIPS."]


def _inversion(figures: dict) -> list[str]:
    lines = ["| inversion | faces | N | dlib distance, median (mean) | PSNR, dB | SqueezeNet | landmarks, median |",
             "|---|---|---|---|---|---|---|"]
    for part, label in INVERSIONS.items():
        told = figures.get(part, {})
        if "recorded" in told:
            known = told["recorded"]
            lines.append(f"| 1000 principal components, {known['source']} | all | {known['N']} | "
                         f"{known['median dlib distance']:.3f} | | | |")
        label = f"refined, {told['steps']} steps" if "steps" in told else label
        label = f"{told['coefficients']} {label}, {told['side']}²" if "coefficients" in told else label
        rows = [(label, name, row) for name, row in told.items() if isinstance(row, dict) and "dlib" in row]
        for label_, name, row in rows:
            same = name == "encoder on the same faces"
            lines.append(_row("encoder alone" if same else label_, "those refined" if same else name, row))
    return lines


def _row(label: str, faces: str, row: dict) -> str:
    dlib, psnr, squeezenet, landmarks = (row[key] for key in COLUMNS)
    n = f"{row['N']}" + (f" ({row['no_face']} without a face)" if row["no_face"] else "")
    if not dlib["N"]:
        return f"| {label} | {faces} | {n} | | {psnr['mean']:.1f} | {squeezenet['mean']:.2f} | |"
    return (f"| {label} | {faces} | {n} | {dlib['median']:.3f} ({dlib['mean']:.3f}) | {psnr['mean']:.1f} | "
            f"{squeezenet['mean']:.2f} | {landmarks['median']:.3f} |")


def _rest(figures: dict) -> list[str]:
    lines = ["| figure | N | value |", "|---|---|---|"]

    def add(name: str, n: object, value: str) -> None:
        lines.append(f"| {name} | {n} | {value} |")

    faces = figures["faces"]
    for key, told in figures.get("samples", {}).items():
        add(f"samples at {key} in which dlib finds a face", told["N"], f"{100 * told['found_share']:.1f} %")
        if "mean_distance" in told["diversity"]:
            add(f"diversity: mean dlib distance between samples at {key}", told["diversity"]["N"],
                f"{told['diversity']['mean_distance']:.3f}")
        n, of_descriptors = told["frechet"]["N"], told["frechet"]["N of descriptors"]
        add(f"Fréchet distance to the faces, SqueezeNet space, {key}", f"{n[0]} / {n[1]}",
            f"{told['frechet']['squeezenet']:.4f}")
        if told["frechet"]["descriptor"] is not None:
            add(f"the same in dlib's descriptor space, {key}", f"{of_descriptors[0]} / {of_descriptors[1]}",
                f"{told['frechet']['descriptor']:.4f}")
    if "mean_distance" in faces["diversity"]:
        add("diversity of the faces themselves", faces["diversity"]["N"], f"{faces['diversity']['mean_distance']:.3f}")
    drawings = figures.get("drawings", {})
    if "percentile" in drawings:
        n = f"{drawings['N']} / {drawings['among']}"
        for key, label in (("percentile", "the faces'"), ("percentile_of_inversions", "the faces' inversions'")):
            told = drawings[key]
            add(f"drawings inverted in-domain: percentile of the discriminator's score among {label}, lowest (median)",
                n, f"{told['lowest']:.0f} ({told['median']:.0f})")
        add("- the faces' own inversions, median percentile among the faces'", drawings["among"],
            f"{drawings['inversions_median']:.0f}")
    for key, told in figures.get("seconds", {}).items():
        if "median" in told:
            add(f"seconds a face, {key}, median (processor time of all threads)", told["N"],
                f"{told['median']:.3f} ({told['processor']:.3f})")
        elif "value" in told:
            add(f"{key} of {told['batch']}", told["batch"], f"{told['value']}")
    return lines
