select id from {{ ref("held") }}
