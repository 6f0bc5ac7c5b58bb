select 1 as id, cast(null as integer) as n
