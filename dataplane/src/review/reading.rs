//! Documents and what they mean together: those of a directory, or those in force.

use super::Candidate;
use crate::config::Config;
use crate::control::directory::read_state;
use crate::control::host_pair::{GATEWAY_IPV4, GATEWAY_IPV6};
use crate::control::source::{SourceFile, SourceState};
use crate::control::{Documents, settings_of};
use portcullis_policy::{
    Compiler, Document, EnforcementMode, Generation, IdentityAllocator, KnownNames, NodeFacts,
    Object, Pod, Settings, Tables,
};
use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// Documents of one moment, and their tables.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The documents.
    pub documents: Arc<Vec<Arc<Document>>>,
    /// The settings they were read under.
    pub settings: Settings,
    /// What was known of the node.
    pub facts: NodeFacts,
    /// What they mean.
    pub tables: Arc<Tables>,
}

impl Reading {
    /// Reads a state directory as the daemon would, or a single file of manifests.
    ///
    /// Of the node it knows what `config.yaml` says and the gateway, no other address.
    ///
    /// # Errors
    /// Every fault of every file.
    pub fn load(path: &Path) -> Result<Self, Vec<String>> {
        let state = if path.is_dir() {
            read_state(path).map_err(|e| vec![e.to_string()])?
        } else {
            let text =
                fs::read_to_string(path).map_err(|e| vec![format!("{}: {e}", path.display())])?;
            let name = path.display().to_string();
            SourceState {
                config: None,
                files: vec![SourceFile { name, text }],
            }
        };
        Self::of_state(&state)
    }

    /// Reads what a source holds.
    ///
    /// # Errors
    /// Every fault of every file.
    pub fn of_state(state: &SourceState) -> Result<Self, Vec<String>> {
        let texts = |errors: Vec<portcullis_policy::DocumentError>| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let config = match &state.config {
            Some(file) => Config::parse(&file.name, &file.text).map_err(texts),
            None => Ok(Config::default()),
        };
        let settings = settings_of(config.as_ref().unwrap_or(&Config::default()));
        let documents = Documents::default().parse(state, &settings).map_err(texts);
        let (config, documents) = match (config, documents) {
            (Ok(config), Ok(documents)) => (config, documents),
            (config, documents) => {
                let errors = [config.err(), documents.err()];
                return Err(errors.into_iter().flatten().flatten().collect());
            }
        };
        let facts = NodeFacts {
            node_addresses: vec![IpAddr::V4(GATEWAY_IPV4), IpAddr::V6(GATEWAY_IPV6)],
            pod_cidrs: config
                .pod_cidrs
                .iter()
                .map(|block| (block.address, block.prefix_length))
                .collect(),
            ..NodeFacts::default()
        };
        Self::of_documents(documents.shared(), settings, facts).map_err(texts)
    }

    fn of_documents(
        documents: Arc<Vec<Arc<Document>>>,
        settings: Settings,
        facts: NodeFacts,
    ) -> Result<Self, Vec<portcullis_policy::DocumentError>> {
        let mut compiler = Compiler::new(settings.clone(), IdentityAllocator::new());
        let names = KnownNames::default();
        let tables = compiler.replace(&documents, &facts, &names, &settings, Generation(1))?;
        Ok(Self {
            documents,
            settings,
            facts,
            tables: Arc::new(tables),
        })
    }

    /// The same with the documents of a candidate: they take the place of those with the same name,
    /// and if it says so, of all policies.
    ///
    /// # Errors
    /// Every fault of every file, one a line.
    pub fn with_candidate(&self, candidate: &Candidate) -> Result<Self, String> {
        let texts = |errors: Vec<portcullis_policy::DocumentError>| {
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            texts.join("\n")
        };
        let mut settings = match &candidate.config {
            Some((name, text)) => settings_of(&Config::parse(name, text).map_err(texts)?),
            None => self.settings.clone(),
        };
        settings.enforcement_mode = match candidate.enforcement_mode.as_deref() {
            None => settings.enforcement_mode,
            Some("default") => EnforcementMode::Default,
            Some("always") => EnforcementMode::Always,
            Some("never") => EnforcementMode::Never,
            Some(other) => {
                return Err(format!(
                    "enforcement mode: expected default, always or never, found \"{other}\""
                ));
            }
        };
        let files = candidate.files.iter().map(|(name, text)| SourceFile {
            name: name.clone(),
            text: text.clone(),
        });
        let state = SourceState {
            config: None,
            files: files.collect(),
        };
        let added = Documents::default()
            .parse(&state, &settings)
            .map_err(texts)?;
        let key = |of: &Document| {
            let origin = &of.origin;
            (origin.kind, origin.namespace.clone(), origin.name.clone())
        };
        let replaced: HashSet<_> = added.all().iter().map(|document| key(document)).collect();
        let mut documents: Vec<_> = self
            .documents
            .iter()
            .filter(|document| !(candidate.replaces && document.object.policy().is_some()))
            .filter(|document| !replaced.contains(&key(document)))
            .cloned()
            .collect();
        documents.extend(added.all().iter().cloned());
        Self::of_documents(Arc::new(documents), settings, self.facts.clone()).map_err(texts)
    }

    /// The same with further pods, which need not exist anywhere.
    ///
    /// # Errors
    /// When they do not fit to those that are there.
    pub fn with_pods(&self, pods: &[Pod]) -> Result<Self, String> {
        let mut documents = (*self.documents).clone();
        for (place, pod) in pods.iter().enumerate() {
            documents.push(Arc::new(Document {
                origin: portcullis_policy::DocumentOrigin {
                    file: "the question".into(),
                    document: place + 1,
                    kind: "Pod",
                    namespace: Some(pod.namespace.clone()),
                    name: pod.name.clone(),
                },
                object: Object::Pod(pod.clone()),
                warnings: Vec::new(),
            }));
        }
        Self::of_documents(
            Arc::new(documents),
            self.settings.clone(),
            self.facts.clone(),
        )
        .map_err(|errors| {
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            texts.join("; ")
        })
    }

    /// The pods that are endpoints.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.documents
            .iter()
            .filter_map(|document| match &document.object {
                Object::Pod(pod) if pod.is_endpoint() => Some(pod),
                _ => None,
            })
    }
}
