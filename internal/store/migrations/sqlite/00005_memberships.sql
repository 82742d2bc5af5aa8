-- +goose Up

-- Who is in which group is part of what access depends on.
-- +goose StatementBegin
create trigger if not exists membership_inserted after insert on documents when new.collection = 'memberships'
begin
    update access set generation = generation + 1;
end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger if not exists membership_deleted after delete on documents when old.collection = 'memberships'
begin
    update access set generation = generation + 1;
end;
-- +goose StatementEnd

-- +goose Down
drop trigger membership_deleted;
drop trigger membership_inserted;
