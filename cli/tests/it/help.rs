//! The help of every command, word for word.

use std::path::Path;

use crate::run::ctl;

#[tokio::test]
async fn every_command_has_help_with_examples() {
    for command in [
        "",
        "plan",
        "plan check",
        "plan show",
        "plan diff",
        "plan fields",
        "deploy",
        "campaign",
        "campaign run",
        "campaign status",
        "campaign pause",
        "campaign resume",
        "jobs",
        "show",
        "watch",
        "cancel",
        "pause",
        "upload",
        "resume",
        "retry",
        "decide",
        "move",
        "resources",
        "sweep",
        "result",
        "report",
        "explain",
        "bundle",
        "agents",
        "agent",
        "agent token",
        "agent approve",
        "agent revoke",
        "operator",
        "operator add",
        "operator set",
        "operator list",
        "operator revoke",
        "site",
        "site add",
        "site list",
        "audit",
        "audit export",
        "audit verify",
        "web",
        "version",
        "completions",
    ] {
        let mut args: Vec<_> = command.split_whitespace().collect();
        args.push("--help");
        let ran = ctl(Path::new("/nonexistent"), &args).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{command}");
        if command != "plan" {
            assert!(ran.out.contains("Examples:"), "{command}");
        }
        let name = format!("help_{}", command.replace(' ', "_"));
        insta::assert_snapshot!(name, ran.out);
    }
}

#[tokio::test]
async fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = ctl(Path::new("/nonexistent"), &["completions", shell]).await;
        assert_eq!(ran.code, 0);
        for word in ["deploy", "watch", "from-seq", "on-failure"] {
            assert!(ran.out.contains(word), "{shell} {word}");
        }
    }
}
