"""A preprocessor of mdBook: what pages link to outside of docs/ becomes a chapter of the book, so
that a link is right in the repository and in the book. It changes nothing else."""

import json
import os
import re
import sys

DOCS = "docs"
LINK = re.compile(r"\[([^\[\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def in_book(path):
    """The path in the book of a file, given by its path from the root of the repository."""
    inside = os.path.relpath(path, DOCS)
    if inside == "README.md":
        return "index.md"
    if not inside.startswith(".."):
        return inside
    return os.path.join("project", path if path.endswith(".md") else path + ".md")


def rewritten(text, path, outside):
    """A page with its links as the book needs them; what they need is added to `outside`."""

    def link(match):
        label, target, anchor = match[1], match[2], match[3] or ""
        target = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if os.path.isdir(os.path.join("..", target)):
            return label
        if os.path.relpath(target, DOCS).startswith("..") and target not in outside:
            outside.append(target)
        relative = os.path.relpath(in_book(target), os.path.dirname(in_book(path)))
        return f"[{label}]({relative}{anchor})"

    # Every second piece is a fenced block.
    pieces = re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(p if p.startswith("```") else LINK.sub(link, p) for p in pieces)


def chapters(items):
    for item in items:
        if "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def page(path):
    """A file as a page: Markdown as it stands, all else as a block."""
    with open(os.path.join("..", path), encoding="utf-8") as file:
        text = file.read()
    if path.endswith(".md"):
        return text
    return f"# {path}\n\n````{os.path.splitext(path)[1][1:]}\n{text}````\n"


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    items = book["items"]
    outside = []
    for chapter in chapters(items):
        if chapter["source_path"]:
            path = os.path.join(DOCS, chapter["source_path"])
            chapter["content"] = rewritten(chapter["content"], path, outside)
    items.append({"PartTitle": "The project"})
    # More are found while their pages are read.
    for path in outside:
        content = rewritten(page(path), path, outside) if path.endswith(".md") else page(path)
        chapter = {"name": path, "content": content, "number": None, "sub_items": []}
        items.append({"Chapter": chapter | {"path": in_book(path), "source_path": None, "parent_names": []}})
    json.dump(book, sys.stdout)


main()
