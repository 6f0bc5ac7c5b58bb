select * from {{ ref("good") }}
