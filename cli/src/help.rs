//! The help of the command line in Chinese: the English one is declared with the arguments, this is laid over it.
//! Every command has a page; what many commands take in common is on the page `*`.

mod access;
mod campaign;
mod jobs;
mod outcome;
mod root;

use clap::{Arg, ArgAction, Command, CommandFactory as _, builder::StyledStr, error::ErrorKind};

use crate::{
    args::{Args, Lang},
    language,
};

/// What a command and its arguments mean.
struct Page {
    /// The command's words behind `ctl`.
    command: &'static str,
    /// What it does.
    about: &'static str,
    /// What is told below; the examples of the English text follow unless there are own ones.
    after: &'static str,
    /// What each argument means, by its id.
    args: &'static [(&'static str, &'static str)],
}

/// The pages, by subject.
const PAGES: [&[Page]; 5] = [root::PAGES, jobs::PAGES, outcome::PAGES, access::PAGES, campaign::PAGES];
/// Where the examples begin, in either language.
const EXAMPLES: [&str; 2] = ["Examples:\n", "示例：\n"];
/// clap's own, with Chinese words.
const TEMPLATE: &str = "{before-help}{about-with-newline}\n用法：{usage}\n\n{all-args}{after-help}";

/// The whole command line, its help in the language of the process.
pub(crate) fn command() -> Command {
    match language::now() {
        Lang::En => Args::command(),
        Lang::Zh => chinese(Args::command()),
    }
}

fn chinese(command: Command) -> Command {
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    dressed(command.disable_version_flag(true).arg(version), "")
}

/// What is wrong with the command line, in a word; clap's own text, which is English, says where.
pub(crate) fn summary(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => "参数值无效",
        ErrorKind::UnknownArgument => "未知的参数",
        ErrorKind::InvalidSubcommand => "未知的命令",
        ErrorKind::NoEquals => "参数须以等号给出值",
        ErrorKind::TooManyValues => "给出的值过多",
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => "给出的值个数不对",
        ErrorKind::ArgumentConflict => "参数不能同时使用",
        ErrorKind::MissingRequiredArgument => "缺少必需的参数",
        ErrorKind::MissingSubcommand => "缺少命令",
        ErrorKind::InvalidUtf8 => "参数不是 UTF-8 文本",
        _ => return None,
    })
}

fn dressed(command: Command, path: &str) -> Command {
    let page = page(path);
    let after = after(command.get_after_help(), page.map_or("", |page| page.after));
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help);
    let command = command.help_template(TEMPLATE).subcommand_help_heading("命令").disable_help_flag(true).arg(help);
    let command = command.mut_args(|arg| named(arg, path));
    let command = match page {
        Some(page) => command.about(page.about),
        None => command,
    };
    let command = if after.is_empty() { command } else { command.after_help(after) };
    let path = path.to_owned();
    command.mut_subcommands(move |inner| {
        let path = format!("{path} {}", inner.get_name());
        dressed(inner, path.trim_start())
    })
}

/// An argument with its text, under its heading.
fn named(arg: Arg, path: &str) -> Arg {
    let heading = match arg.get_help_heading() {
        Some(_) => "全局选项",
        None if arg.is_positional() => "参数",
        None => "选项",
    };
    // What the values mean is part of the text.
    let told = arg.get_possible_values().iter().any(|value| value.get_help().is_some());
    let hidden = told || arg.is_hide_possible_values_set();
    let text = text(path, arg.get_id().as_str());
    let arg = arg.help_heading(heading).hide_possible_values(hidden);
    match text {
        Some(text) => arg.help(text),
        None => arg,
    }
}

/// The Chinese text below, with the examples of the English one where it has none.
fn after(english: Option<&StyledStr>, chinese: &str) -> String {
    let english = english.map(ToString::to_string).unwrap_or_default();
    let [of_english, of_chinese] = EXAMPLES;
    match english.split_once(of_english) {
        Some((_, examples)) if !chinese.contains(of_chinese) => {
            let gap = if chinese.is_empty() { "" } else { "\n\n" };
            format!("{chinese}{gap}{of_chinese}{examples}")
        }
        _ => chinese.to_owned(),
    }
}

fn page(path: &str) -> Option<&'static Page> {
    PAGES.iter().copied().flatten().find(|page| page.command == path)
}

/// What an argument means: on its command's page, or else on the common one.
fn text(path: &str, id: &str) -> Option<&'static str> {
    [path, "*"].into_iter().filter_map(page).find_map(|page| Some(page.args.iter().find(|(known, _)| *known == id)?.1))
}

#[cfg(test)]
mod tests;
