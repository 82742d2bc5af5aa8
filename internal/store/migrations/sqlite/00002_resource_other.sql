-- +goose Up

-- Top-level members of a resource that have no column: sku, zones, plan.
alter table resources add column other text;

-- +goose Down
alter table resources drop column other;
