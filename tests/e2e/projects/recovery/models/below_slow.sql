select * from {{ ref("slow") }} union all select * from {{ ref("slow_too") }}
