//! What one file of Rust says, read with `syn`: what it names, defines, imports and documents. Code of tests is left out.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};

/// What one file says.
#[derive(Default)]
pub(crate) struct Facts {
    /// Every path of two names and more, those of `use` included.
    pub(crate) paths: Vec<Path>,
    /// Paths of one name: what is used by the name under which it was imported.
    pub(crate) used: BTreeSet<String>,
    /// What `use` brings in.
    pub(crate) imports: Vec<Import>,
    /// Items by the module (below the file's own) in which they are defined.
    pub(crate) items: Vec<(Vec<String>, String)>,
    /// Modules written inside the file.
    pub(crate) inline_modules: Vec<Vec<String>>,
    /// Modules of tests, in the file or beside it.
    pub(crate) test_modules: Vec<Vec<String>>,
    /// Structs, enums, unions, traits and aliases.
    pub(crate) types: Vec<At<String>>,
    /// The first line of each documentation.
    pub(crate) docs: Vec<At<String>>,
    /// Parameters of functions whose type is a tuple.
    pub(crate) tuples: Vec<At<String>>,
    pub(crate) statics: Vec<At<Static>>,
    /// Lines on which something is unwrapped.
    pub(crate) unwraps: Vec<usize>,
    /// Macros that are called, and every name, with the first line of each.
    pub(crate) macros: BTreeMap<String, usize>,
    pub(crate) names: BTreeMap<String, usize>,
}

/// Something with the line on which it stands.
pub(crate) struct At<T> {
    pub(crate) line: usize,
    pub(crate) what: T,
}

/// A path as it is written, and the module (below the file's own) in which it stands.
pub(crate) struct Path {
    pub(crate) within: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) line: usize,
}

/// One leaf of a `use`; `name` is `*` when it brings in everything.
pub(crate) struct Import {
    pub(crate) name: String,
    /// Whether it is for others: `pub use`.
    pub(crate) handed_on: bool,
    pub(crate) path: Path,
}

/// A `static` item and the names of its type.
pub(crate) struct Static {
    pub(crate) name: String,
    pub(crate) mutable: bool,
    pub(crate) type_names: Vec<String>,
}

impl Facts {
    /// Reads the text of a file.
    pub(crate) fn of(text: &str) -> syn::Result<Self> {
        let file = syn::parse_file(text)?;
        let mut reader = Reader::default();
        reader.documented(&file.attrs);
        reader.visit_file(&file);
        Ok(reader.facts)
    }
}

#[derive(Default)]
struct Reader {
    facts: Facts,
    /// The inline module being read.
    within: Vec<String>,
}

impl Reader {
    /// Notes the first line of the documentation that `attrs` hold.
    fn documented(&mut self, attrs: &[syn::Attribute]) {
        let mut lines = attrs.iter().filter_map(|attr| {
            let syn::Meta::NameValue(pair) = &attr.meta else {
                return None;
            };
            let syn::Expr::Lit(literal) = &pair.value else {
                return None;
            };
            match &literal.lit {
                syn::Lit::Str(text) if pair.path.is_ident("doc") => Some(At {
                    line: attr.pound_token.span.start().line,
                    what: text.value().trim().to_owned(),
                }),
                _ => None,
            }
        });
        self.facts.docs.extend(lines.next());
    }

    /// Notes an item of the module being read.
    fn defined(&mut self, name: &syn::Ident) {
        let item = (self.within.clone(), name.to_string());
        self.facts.items.push(item);
    }

    fn defined_type(&mut self, name: &syn::Ident) {
        self.defined(name);
        self.facts.types.push(At {
            line: name.span().start().line,
            what: name.to_string(),
        });
    }

    fn path(&mut self, names: Vec<String>, line: usize) -> Path {
        Path {
            within: self.within.clone(),
            names,
            line,
        }
    }

    fn imports(&mut self, tree: &syn::UseTree, before: &[String], handed_on: bool) {
        let followed_by = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let line = match tree {
            syn::UseTree::Path(path) => path.ident.span(),
            syn::UseTree::Name(one) => one.ident.span(),
            syn::UseTree::Rename(one) => one.ident.span(),
            syn::UseTree::Glob(all) => all.star_token.span,
            syn::UseTree::Group(group) => group.brace_token.span.open(),
        };
        let line = line.start().line;
        let (name, names) = match tree {
            syn::UseTree::Path(path) => {
                return self.imports(&path.tree, &followed_by(&path.ident), handed_on);
            }
            syn::UseTree::Group(group) => {
                let trees = group.items.iter();
                return trees.for_each(|tree| self.imports(tree, before, handed_on));
            }
            syn::UseTree::Name(one) if one.ident == "self" => {
                (before.last().cloned().unwrap_or_default(), before.to_vec())
            }
            syn::UseTree::Name(one) => (one.ident.to_string(), followed_by(&one.ident)),
            syn::UseTree::Rename(one) if one.ident == "self" => {
                (one.rename.to_string(), before.to_vec())
            }
            syn::UseTree::Rename(one) => (one.rename.to_string(), followed_by(&one.ident)),
            syn::UseTree::Glob(_) => ("*".to_owned(), before.to_vec()),
        };
        let path = self.path(names, line);
        self.facts.imports.push(Import {
            name,
            handed_on,
            path,
        });
    }

    /// What the arguments of a macro name: `syn` does not know what they mean, so paths are gathered from the tokens.
    fn tokens(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            let from = at;
            at += 1;
            match &tokens[from] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut names = vec![first.to_string()];
                    while let Some(next) = after_colons(&tokens[at..]) {
                        names.push(next);
                        at += 3;
                    }
                    self.named(names, first.span().start().line, &tokens, from, at);
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Notes the path that stands in `tokens` between `from` and `to`.
    fn named(
        &mut self,
        names: Vec<String>,
        line: usize,
        tokens: &[TokenTree],
        from: usize,
        to: usize,
    ) {
        let before = from.checked_sub(1).and_then(|at| tokens.get(at));
        let last = names.last().cloned().unwrap_or_default();
        for name in &names {
            self.facts.names.entry(name.clone()).or_insert(line);
        }
        if is_punct(tokens.get(to), '!') {
            self.facts.macros.entry(last.clone()).or_insert(line);
        }
        let called = matches!(tokens.get(to), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis && group.stream().is_empty());
        if last == "unwrap" && is_punct(before, '.') && called {
            self.facts.unwraps.push(line);
        }
        if last == "static" && !is_punct(before, '\'') {
            self.facts.statics.push(At {
                line,
                what: static_of(&tokens[to..]),
            });
        }
        if names.len() > 1 {
            let path = self.path(names, line);
            self.facts.paths.push(path);
        } else {
            self.facts.used.extend(names);
        }
    }
}

/// The name after `::`, which `tokens` begin with.
fn after_colons(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [
            TokenTree::Punct(a),
            TokenTree::Punct(b),
            TokenTree::Ident(name),
            ..,
        ] if a.as_char() == ':' && b.as_char() == ':' => Some(name.to_string()),
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

/// The `static` whose tokens follow its keyword.
fn static_of(tokens: &[TokenTree]) -> Static {
    let head = tokens
        .iter()
        .take_while(|token| !is_punct(Some(token), '=') && !is_punct(Some(token), ';'));
    let mut names = Vec::new();
    for token in head {
        match token {
            TokenTree::Ident(name) => names.push(name.to_string()),
            TokenTree::Group(group) => names.extend(
                group
                    .stream()
                    .into_iter()
                    .filter(|token| matches!(token, TokenTree::Ident(_)))
                    .map(|token| token.to_string()),
            ),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    let mutable = names.first().is_some_and(|name| name == "mut");
    let mut names = names.into_iter().skip(usize::from(mutable));
    Static {
        name: names.next().unwrap_or_default(),
        mutable,
        type_names: names.collect(),
    }
}

/// The names in a type.
#[derive(Default)]
struct Names(Vec<String>);

impl Visit<'_> for Names {
    fn visit_ident(&mut self, name: &syn::Ident) {
        self.0.push(name.to_string());
    }
}

/// Whether what carries `attrs` is built for tests only.
fn is_test(attrs: &[syn::Attribute]) -> bool {
    attrs
        .iter()
        .filter(|attr| attr.path().is_ident("cfg"))
        .filter_map(|attr| attr.parse_args::<syn::Meta>().ok())
        .any(|wanted| needs_test(&wanted))
}

fn needs_test(wanted: &syn::Meta) -> bool {
    match wanted {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated)
            .is_ok_and(|all| all.iter().any(needs_test)),
        syn::Meta::List(_) | syn::Meta::NameValue(_) => false,
    }
}

/// Nodes of which nothing is noted but their documentation, and whose inside is read unless it is a test's.
macro_rules! read_unless_a_test {
    ($($visit:ident: $node:ident,)*) => {
        $(fn $visit(&mut self, node: &'ast syn::$node) {
            if !is_test(&node.attrs) {
                self.documented(&node.attrs);
                visit::$visit(self, node);
            }
        })*
    };
}

/// Items of which the name is noted as well.
macro_rules! define_unless_a_test {
    ($($visit:ident: $node:ident $(. $part:ident)? by $note:ident,)*) => {
        $(fn $visit(&mut self, node: &'ast syn::$node) {
            if !is_test(&node.attrs) {
                self.$note(&node$(.$part)?.ident);
                self.documented(&node.attrs);
                visit::$visit(self, node);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Reader {
    define_unless_a_test! {
        visit_item_struct: ItemStruct by defined_type,
        visit_item_enum: ItemEnum by defined_type,
        visit_item_union: ItemUnion by defined_type,
        visit_item_trait: ItemTrait by defined_type,
        visit_item_type: ItemType by defined_type,
        visit_item_const: ItemConst by defined,
        visit_item_fn: ItemFn.sig by defined,
    }

    read_unless_a_test! {
        visit_item_impl: ItemImpl,
        visit_item_foreign_mod: ItemForeignMod,
        visit_impl_item_const: ImplItemConst,
        visit_impl_item_fn: ImplItemFn,
        visit_impl_item_macro: ImplItemMacro,
        visit_impl_item_type: ImplItemType,
        visit_trait_item_const: TraitItemConst,
        visit_trait_item_fn: TraitItemFn,
        visit_trait_item_macro: TraitItemMacro,
        visit_trait_item_type: TraitItemType,
        visit_field: Field,
        visit_variant: Variant,
        visit_arm: Arm,
        visit_local: Local,
        visit_stmt_macro: StmtMacro,
        visit_field_value: FieldValue,
        visit_field_pat: FieldPat,
        visit_expr_assign: ExprAssign,
        visit_expr_await: ExprAwait,
        visit_expr_block: ExprBlock,
        visit_expr_call: ExprCall,
        visit_expr_if: ExprIf,
        visit_expr_macro: ExprMacro,
        visit_expr_match: ExprMatch,
        visit_expr_path: ExprPath,
        visit_expr_struct: ExprStruct,
    }

    fn visit_item_macro(&mut self, node: &'ast syn::ItemMacro) {
        if !is_test(&node.attrs) {
            if let Some(name) = &node.ident {
                self.defined(name);
            }
            visit::visit_item_macro(self, node);
        }
    }

    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        self.within.push(node.ident.to_string());
        if is_test(&node.attrs) {
            self.facts.test_modules.push(self.within.clone());
        } else {
            self.documented(&node.attrs);
            if node.content.is_some() {
                self.facts.inline_modules.push(self.within.clone());
            }
            visit::visit_item_mod(self, node);
        }
        self.within.pop();
    }

    fn visit_item_use(&mut self, node: &'ast syn::ItemUse) {
        if is_test(&node.attrs) {
            return;
        }
        visit::visit_item_use(self, node);
        if node.leading_colon.is_none() {
            let handed_on = !matches!(node.vis, syn::Visibility::Inherited);
            self.imports(&node.tree, &[], handed_on);
        }
    }

    fn visit_item_static(&mut self, node: &'ast syn::ItemStatic) {
        if is_test(&node.attrs) {
            return;
        }
        let mut names = Names::default();
        names.visit_type(&node.ty);
        self.defined(&node.ident);
        self.documented(&node.attrs);
        self.facts.statics.push(At {
            line: node.static_token.span.start().line,
            what: Static {
                name: node.ident.to_string(),
                mutable: matches!(node.mutability, syn::StaticMutability::Mut(_)),
                type_names: names.0,
            },
        });
        visit::visit_item_static(self, node);
    }

    fn visit_expr_method_call(&mut self, node: &'ast syn::ExprMethodCall) {
        if is_test(&node.attrs) {
            return;
        }
        if node.method == "unwrap" && node.args.is_empty() {
            self.facts.unwraps.push(node.method.span().start().line);
        }
        visit::visit_expr_method_call(self, node);
    }

    fn visit_signature(&mut self, node: &'ast syn::Signature) {
        let tuples = node.inputs.iter().filter_map(|input| match input {
            syn::FnArg::Typed(parameter) if is_tuple(&parameter.ty) => Some(At {
                line: parameter.colon_token.span.start().line,
                what: node.ident.to_string(),
            }),
            _ => None,
        });
        self.facts.tuples.extend(tuples);
        visit::visit_signature(self, node);
    }

    fn visit_path(&mut self, node: &'ast syn::Path) {
        let names: Vec<String> = node
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        let first = node.segments.first();
        let line = first.map_or(0, |segment| segment.ident.span().start().line);
        if names.len() > 1 && node.leading_colon.is_none() {
            if names.last().is_some_and(|last| last == "unwrap") {
                self.facts.unwraps.push(line);
            }
            let path = self.path(names, line);
            self.facts.paths.push(path);
        } else {
            self.facts.used.extend(names);
        }
        visit::visit_path(self, node);
    }

    fn visit_macro(&mut self, node: &'ast syn::Macro) {
        if let Some(last) = node.path.segments.last() {
            let line = last.ident.span().start().line;
            let name = last.ident.to_string();
            self.facts.macros.entry(name).or_insert(line);
        }
        visit::visit_macro(self, node);
        self.tokens(node.tokens.clone());
    }

    fn visit_meta_list(&mut self, node: &'ast syn::MetaList) {
        visit::visit_meta_list(self, node);
        self.tokens(node.tokens.clone());
    }

    fn visit_ident(&mut self, name: &'ast syn::Ident) {
        let line = name.span().start().line;
        self.facts.names.entry(name.to_string()).or_insert(line);
    }
}

fn is_tuple(mut of: &syn::Type) -> bool {
    while let syn::Type::Reference(to) = of {
        of = &to.elem;
    }
    matches!(of, syn::Type::Tuple(tuple) if tuple.elems.len() > 1)
}
