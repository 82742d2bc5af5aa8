-- +goose Up

-- Times are milliseconds since 1970 (UTC); 0 means "not yet".
-- Columns named *_key hold the lower-case form that look-ups use.

create table settings (
    only_row        integer primary key check (only_row = 1),
    subscription_id text not null,
    tenant_id       text not null,
    node_id         text not null
);

create table resources (
    key        text    primary key,
    id         text    not null,
    type       text    not null,
    type_key   text    not null,
    name       text    not null,
    location   text    not null,
    kind       text    not null,
    tags       text    not null,
    identity   text,
    properties text,
    internal   text,
    etag       text    not null,
    version    integer not null,
    created_at integer not null,
    updated_at integer not null
);
create index resources_by_type on resources (type_key, key);

create table resource_tags (
    tag_key      text not null,
    resource_key text not null references resources (key) on delete cascade,
    value        text not null,
    primary key (tag_key, resource_key)
) without rowid;
create index resource_tags_by_resource on resource_tags (resource_key);

create table runs (
    seq              integer primary key autoincrement,
    id               text    not null unique,
    template         text    not null,
    template_key     text    not null,
    state            text    not null,
    sub_state        text    not null,
    message          text    not null,
    phase            text    not null,
    failed_step      text    not null,
    outputs          text,
    request          text,
    undo             text,
    owner            text    not null,
    boot_id          text    not null,
    epoch            integer not null,
    version          integer not null,
    lease_expires_at integer not null,
    created_at       integer not null,
    started_at       integer not null,
    ended_at         integer not null
);
create index runs_by_template on runs (template_key, seq);
create index runs_by_state on runs (state, seq);

create table layers (
    id           text    primary key,
    key          text,
    kind         text    not null,
    parent       text    references layers (id),
    base         text    not null,
    run          text    not null,
    bytes        integer not null,
    manifest     text,
    created_at   integer not null,
    last_used_at integer not null
);
-- A layer without a key is never looked up, so any number of them may exist.
create unique index layers_by_key on layers (kind, key) where key is not null;
create index layers_by_parent on layers (parent);
create index layers_by_use on layers (last_used_at);

create table pins (
    run_id   text not null,
    layer_id text not null references layers (id),
    primary key (run_id, layer_id)
) without rowid;
create index pins_by_layer on pins (layer_id);

create table documents (
    collection text    not null,
    key        text    not null,
    name       text    not null,
    body       text    not null,
    etag       text    not null,
    updated_at integer not null,
    primary key (collection, key)
) without rowid;

-- +goose Down
drop table documents;
drop table pins;
drop table layers;
drop table runs;
drop table resource_tags;
drop table resources;
drop table settings;
