select * from {{ ref("not_south") }}
