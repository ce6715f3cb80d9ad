//! What a node asks of a module, and what the module says of its commands.

use crate::codec::{choice, record};

choice! {
    /// A call that the node hands to us.
    pub enum InvocationKind as "invocation" {
        /// A command of the node's command line.
        0 => Cli { subcommand: String, args: Vec<String> },
        /// A JSON-RPC call of an endpoint that we registered.
        1 => Rpc { method: String, params: serde_json::Value },
        /// Another module's call of our API. The caller is as the node names it.
        2 => ModuleApi { method: String, params: Vec<u8>, caller_module_id: String },
    }
}

choice! {
    /// Our answer, of the kind that was asked.
    pub enum InvocationAnswer as "invocation answer" {
        /// What a command printed, and how it ended.
        0 => Cli { stdout: String, stderr: String, exit_code: i32 },
        /// A JSON-RPC result.
        1 => Rpc(result: serde_json::Value),
        /// What our API answers.
        2 => ModuleApi(answer: Vec<u8>),
    }
}

record! {
    /// The commands a module adds to the node's command line.
    #[derive(Eq)]
    pub struct CliSpec {
        /// The version of this description: 1.
        pub version: u32,
        /// The command that ours stand under.
        pub name: String,
        /// What it is for.
        pub about: Option<String>,
        /// The commands.
        pub subcommands: Vec<CliSubcommand>,
    }
}

record! {
    /// One command.
    #[derive(Eq)]
    pub struct CliSubcommand {
        /// Its name.
        pub name: String,
        /// What it does.
        pub about: Option<String>,
        /// Its arguments.
        pub args: Vec<CliArg>,
    }
}

record! {
    /// One argument of a command.
    #[derive(Eq)]
    pub struct CliArg {
        /// Its name.
        pub name: String,
        /// `--long-name`, if not the name.
        pub long_name: Option<String>,
        /// `-s`.
        pub short_name: Option<String>,
        /// Whether the command needs it.
        pub required: Option<bool>,
        /// Whether a value follows it.
        pub takes_value: Option<bool>,
        /// The value when it is left out.
        pub default: Option<String>,
    }
}
