select null as id union all select 2
