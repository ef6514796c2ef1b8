//! Options of which the order on the command line counts: the steps of `rename` and `edit`.

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};

/// An option: its name, the name of its value, its help, and what `--help` says besides.
pub(crate) type Spelling = (&'static str, &'static str, &'static str, &'static str);

/// Adds the options to a command, of which one must be given; `each` completes an option.
pub(crate) fn with_options(
    command: Command,
    group: &'static str,
    spellings: &[Spelling],
    each: impl Fn(Arg) -> Arg,
) -> Command {
    let group = ArgGroup::new(group).args(spellings.iter().map(|(name, ..)| *name)).required(true).multiple(true);
    let options = spellings.iter().map(|(name, value, help, more)| {
        let option = Arg::new(*name).long(*name).value_name(*value).help(*help).action(ArgAction::Append);
        each(if more.is_empty() { option } else { option.long_help(format!("{help}\n\n{more}")) })
    });
    command.args(options).group(group)
}

/// The options that were given, with their values, in the order of the command line.
pub(crate) fn given(matches: &ArgMatches, spellings: &[Spelling]) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (name, ..) in spellings {
        let values = matches.get_many::<String>(name).into_iter().flatten().cloned();
        found.extend(matches.indices_of(name).into_iter().flatten().zip(values).map(|(at, v)| (at, *name, v)));
    }
    found.sort_by_key(|(at, ..)| *at);
    found.into_iter().map(|(_, name, value)| (name, value)).collect()
}
