//! The images of the pages: each stands in one page, says in words what it shows, and is read in the
//! dark as well.

use std::fs;

use super::{files, root};

#[test]
fn each_image_stands_in_one_page_with_what_it_shows() {
    let pages: Vec<String> = files(&root())
        .into_iter()
        .filter(|path| path.extension() == Some("md".as_ref()))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut seen = 0;
    for image in files(&root().join("docs/images")) {
        let name = image.file_name().unwrap().to_str().unwrap();
        let end = format!("images/{name}");
        let shown = |rest: &&str| rest.split(')').next().is_some_and(|at| at.ends_with(&end));
        let uses: Vec<&str> =
            pages.iter().flat_map(|page| page.split("![").skip(1)).filter(shown).collect();
        let [used] = uses[..] else { panic!("{name} stands in {} pages", uses.len()) };
        let (alternative, _) = used.split_once("](").unwrap();
        assert!(alternative.len() >= 60, "{name}: {alternative:?} does not say what it shows");
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn each_drawing_has_colours_for_the_dark_and_a_title() {
    let drawings = files(&root().join("docs/images")).into_iter();
    let drawings: Vec<_> =
        drawings.filter(|path| path.extension() == Some("svg".as_ref())).collect();
    assert_eq!(drawings.len(), 4);
    for path in drawings {
        let text = fs::read_to_string(&path).unwrap();
        let (_, dark) = text.split_once("(prefers-color-scheme: dark)").unwrap();
        assert!(dark.contains(".paper") && text.contains("class=\"paper\""), "{path:?}");
        assert!(text.contains("<title id=\"title\">"), "{path:?}");
        // Every colour is in the style, where the dark can change it.
        let drawn = text.split("</style>").nth(1).unwrap();
        assert!(!drawn.contains("fill=\"#") && !drawn.contains("stroke=\"#"), "{path:?}");
        assert!(text.len() < 6000, "{path:?} is no small drawing");
    }
}
