use super::*;

struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for dir in ["work", "home/.config/blvm", "etc/blvm"] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        Self { root }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn with(self, path: &str, text: &str) -> Self {
        std::fs::write(self.path(path), text).unwrap();
        self
    }

    fn find(&self, asked: &Asked) -> Result<NodeDirs, Error> {
        Surroundings {
            working_dir: self.path("work"),
            home: Some(self.path("home")),
            system: self.path("etc"),
        }
        .find(asked)
    }

    fn refusal(&self) -> String {
        self.find(&Asked::default()).unwrap_err().to_string()
    }
}

#[test]
fn without_any_configuration_nothing_is_guessed() {
    let machine = Machine::new();
    let said = machine.refusal();
    assert!(
        said.contains("--modules-dir") && said.contains("blvm.toml"),
        "{said}"
    );
    std::fs::create_dir(machine.path("work/modules")).unwrap();
    assert!(machine.refusal().contains("./modules"), "a hint, no guess");
}

#[test]
fn the_configuration_in_the_working_directory_may_be_relative() {
    let machine = Machine::new().with("work/blvm.toml", "[modules]\nmodules_dir = \"mods\"\n");
    let dirs = machine.find(&Asked::default()).unwrap();
    assert_eq!(dirs.modules_dir, machine.path("work/mods"));
    assert_eq!(dirs.data_dir, Some(machine.path("work/data/modules")));
}

#[test]
fn a_relative_directory_elsewhere_is_refused() {
    let machine = Machine::new().with("etc/blvm/blvm.toml", "[modules]\n");
    assert!(machine.refusal().contains("relative"), "{}", machine.refusal());
}

#[test]
fn a_tilde_is_the_home_directory() {
    let machine = Machine::new().with(
        "etc/blvm/blvm.toml",
        "[modules]\nmodules_dir = \"~/m\"\ndata_dir = \"/d\"\n",
    );
    let dirs = machine.find(&Asked::default()).unwrap();
    assert_eq!(
        (dirs.modules_dir, dirs.data_dir),
        (machine.path("home/m"), Some(PathBuf::from("/d")))
    );
}

#[test]
fn two_nodes_are_one_too_many_unless_they_agree() {
    let machine = Machine::new()
        .with("home/.config/blvm/blvm.toml", "[modules]\nmodules_dir = \"/a\"\n")
        .with("etc/blvm/blvm.toml", "[modules]\nmodules_dir = \"/b\"\n");
    let said = machine.refusal();
    assert!(
        said.contains("/a") && said.contains("/b") && said.contains("--node-config"),
        "{said}"
    );
    let chosen = Asked {
        node_config: Some(machine.path("etc/blvm/blvm.toml")),
        ..Asked::default()
    };
    assert_eq!(machine.find(&chosen).unwrap().modules_dir, PathBuf::from("/b"));
    let machine = machine.with("etc/blvm/blvm.toml", "[modules]\nmodules_dir = \"/a\"\n");
    assert_eq!(
        machine.find(&Asked::default()).unwrap().modules_dir,
        PathBuf::from("/a")
    );
}

#[test]
fn a_configuration_that_the_node_could_not_read_is_not_passed_over() {
    let machine = Machine::new().with("work/blvm.toml", "[modules\n");
    assert!(machine.refusal().contains("defaults"), "{}", machine.refusal());
}

#[test]
fn json_is_read_as_the_node_reads_it() {
    let machine = Machine::new().with(
        "work/node.json",
        r#"{"x": null, "modules": {"modules_dir": "/m"}}"#,
    );
    let asked = Asked {
        node_config: Some(PathBuf::from("node.json")),
        ..Asked::default()
    };
    assert_eq!(machine.find(&asked).unwrap().modules_dir, PathBuf::from("/m"));
}

#[test]
fn what_keeps_a_module_from_being_loaded_is_told() {
    let obstacle = |text: &str| {
        Settings::from_table(&toml::from_str(text).unwrap())
            .loading
            .obstacle("blvm-mesh", "0.1.3")
    };
    assert!(
        obstacle("").unwrap().contains("blvm-mesh = \"0.1.*\""),
        "the node's own pins are in force"
    );
    assert!(obstacle("enabled = false").unwrap().contains("switched off"));
    assert!(
        obstacle("enabled_modules = []\ndisabled_modules = [\"blvm-mesh\"]")
            .unwrap()
            .contains("disabled_modules")
    );
    for loaded in [
        "enabled_modules = []",
        "enabled_modules = [\"blvm-mesh\"]",
        "blvm-mesh = \"0.1.*\"",
        "[blvm-mesh]\nversion = \"0.1.*\"",
        "[enabled_modules]\nblvm-mesh = \"*\"",
    ] {
        assert_eq!(obstacle(loaded), None, "{loaded}");
    }
    assert!(
        obstacle("[blvm-mesh]\nmode = \"open\"").is_some(),
        "settings alone pin nothing"
    );
}
