//! What the pages name is there: the pages and headings that they link to, the targets of `make`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::workspace;

#[test]
fn links_lead_to_pages_and_headings_that_there_are() {
    let mut dead = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in links(&text).filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = page.parent().unwrap_or(Path::new("."));
            let target = match file {
                "" => page.clone(),
                file => folder.join(file),
            };
            let is_there = target.exists()
                && (heading.is_empty() || anchors(&read(&target)).any(|it| it == heading));
            if !is_there {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert_eq!(dead, [""; 0]);
}

#[test]
fn every_page_can_be_found_from_the_readme() {
    let readme = read(&workspace().join("README.md"));
    let linked: BTreeSet<&str> = links(&readme).collect();
    for page in pages() {
        let name = page.file_name().unwrap_or_default().to_string_lossy();
        if name != "README.md" {
            let is_linked = linked.contains(&*name) || linked.contains(&*format!("docs/{name}"));
            assert!(is_linked, "README.md does not link to {}", page.display());
        }
    }
}

#[test]
fn every_target_of_make_is_named_and_every_one_that_is_named_exists() {
    let makefile = read(&workspace().join("Makefile"));
    let rules = makefile.lines().filter_map(|line| line.split_once(':'));
    let rules: BTreeSet<&str> = rules.map(|(target, _)| target).collect();
    let mut named = BTreeSet::new();
    for page in pages() {
        let text = read(&page);
        for target in targets(&text) {
            let page = page.display();
            assert!(rules.contains(target), "{page} names make {target}");
            named.insert(target.to_owned());
        }
    }
    let listed = makefile.lines().filter_map(listed);
    let unnamed: Vec<&str> = listed.filter(|target| !named.contains(*target)).collect();
    assert_eq!(unnamed, [""; 0], "no page names make …");
}

/// The target of a line that `make help` lists, with or without what it depends on.
fn listed(line: &str) -> Option<&str> {
    let (target, rest) = line.split_once(':')?;
    let is_name = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
    let is_target = !target.is_empty() && target.chars().all(is_name);
    (is_target && rest.contains("## ")).then_some(target)
}

/// The pages at the top and those in `docs/`.
fn pages() -> Vec<PathBuf> {
    let folders = [workspace(), workspace().join("docs")];
    let files = folders.iter().flat_map(|folder| {
        let files = std::fs::read_dir(folder);
        files.unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    });
    let mut pages: Vec<PathBuf> = files
        .map(|file| file.unwrap_or_else(|error| panic!("{error}")).path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    pages
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines outside of fences.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| {
        let behind = line.split("](").skip(1);
        behind.filter_map(|rest| Some(rest.split_once(')')?.0))
    })
}

/// Headings as GitHub makes anchors of them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// `demo` of `make demo`, where it is written as a command.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let commands = ["`make ", "    make ", "sudo make "];
    let behind = commands
        .into_iter()
        .flat_map(move |command| text.split(command).skip(1));
    behind.filter_map(|rest| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name = rest.split(|c| !is_name(c)).next()?;
        (!name.is_empty()).then_some(name)
    })
}
