-- +goose Up

-- generation changes with every write that access depends on, so that one row
-- tells whether a compiled policy still holds.
create table access (
    only_row   integer primary key check (only_row = 1),
    generation integer not null
);
insert into access (only_row, generation) values (1, 1);

-- +goose StatementBegin
create trigger access_inserted after insert on resources
when new.type_key in ('microsoft.authorization/roleassignments', 'microsoft.authorization/roledefinitions')
    or new.key like '/subscriptions/%/providers/microsoft.virtualmachineimages%'
begin
    update access set generation = generation + 1;
end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger access_updated after update on resources
when new.type_key in ('microsoft.authorization/roleassignments', 'microsoft.authorization/roledefinitions')
    or new.key like '/subscriptions/%/providers/microsoft.virtualmachineimages%'
begin
    update access set generation = generation + 1;
end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger access_deleted after delete on resources
when old.type_key in ('microsoft.authorization/roleassignments', 'microsoft.authorization/roledefinitions')
    or old.key like '/subscriptions/%/providers/microsoft.virtualmachineimages%'
begin
    update access set generation = generation + 1;
end;
-- +goose StatementEnd

create table audit (
    seq           integer primary key autoincrement,
    first_at      integer not null,
    last_at       integer not null,
    times         integer not null,
    principal_key text    not null,
    action        text    not null,
    scope         text    not null,
    scope_key     text    not null,
    data          integer not null,
    allowed       integer not null,
    assignment    text    not null,
    role          text    not null,
    run           text    not null,
    why           text    not null
);
create index audit_by_run on audit (run, seq) where run <> '';
create index audit_by_principal on audit (principal_key, seq);

-- +goose Down
drop table audit;
drop trigger access_deleted;
drop trigger access_updated;
drop trigger access_inserted;
drop table access;
