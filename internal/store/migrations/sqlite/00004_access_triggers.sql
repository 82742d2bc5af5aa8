-- +goose Up

-- Access depends on roles, assignments and registrations. The triggers before took
-- every image template for a registration.
drop trigger access_deleted;
drop trigger access_updated;
drop trigger access_inserted;

-- +goose StatementBegin
create trigger access_inserted after insert on resources
when new.type_key in ('microsoft.authorization/roleassignments', 'microsoft.authorization/roledefinitions', 'microsoft.resources/providers')
begin
    update access set generation = generation + 1;
end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger access_updated after update on resources
when new.type_key in ('microsoft.authorization/roleassignments', 'microsoft.authorization/roledefinitions', 'microsoft.resources/providers')
begin
    update access set generation = generation + 1;
end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger access_deleted after delete on resources
when old.type_key in ('microsoft.authorization/roleassignments', 'microsoft.authorization/roledefinitions', 'microsoft.resources/providers')
begin
    update access set generation = generation + 1;
end;
-- +goose StatementEnd

-- +goose Down
select 1;
