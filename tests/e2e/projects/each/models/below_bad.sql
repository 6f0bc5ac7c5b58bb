select * from {{ ref("bad") }}
