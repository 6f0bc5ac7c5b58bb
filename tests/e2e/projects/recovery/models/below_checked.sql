select * from {{ ref("checked") }}
