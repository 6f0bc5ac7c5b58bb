select * from {{ ref("tested") }}
