"""Looks that each link and image of a book leads to a file of it, and to an id in that file."""

import html.parser
import os
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    """The ids of a page, and what it refers to."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        with open(path, encoding="utf-8") as file:
            self.feed(file.read())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            elif name in ("href", "src") and tag in ("a", "img"):
                self.links.append(value)


def main(book):
    paths = [os.path.join(at, name) for at, _, names in os.walk(book) for name in names]
    # One page has all the others, and 404.html is for wherever a reader got lost.
    own = ("print.html", "404.html", "toc.html")
    paths = [path for path in paths if path.endswith(".html") and os.path.basename(path) not in own]
    pages = {os.path.normpath(path): Page(path) for path in paths}
    checked, broken = 0, []
    for path, page in pages.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            target = urllib.parse.unquote(parts.path)
            target = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
            anchor = urllib.parse.unquote(parts.fragment)
            there = target in pages and (not anchor or anchor in pages[target].ids)
            if not there and (target in pages or not os.path.isfile(target)):
                broken.append(f"{os.path.relpath(path, book)}: {link}")
    print(f"{len(pages)} pages, {checked} links")
    if broken or checked < 300:
        sys.exit("\n".join(["these links lead nowhere:", *broken]))


main(sys.argv[1])
